#!/usr/bin/env bash
# Measures jaxlung on one GPU in less than 8 minutes; needs neither TensorFlow nor a network:
#
#     benchmarks/gpu.sh [--out runs/gpu] [--dry]
#
# Parts: prediction from files to masks; seeds trained one after another; a training with FSDP on one
# device; training steps 64 and 16 wide, in bfloat16 and float32, beside PyTorch (autocast,
# channels-last, torch.compile) where it is installed. OUT gets each part's text (NAME.txt) and
# figures, and of all summary.md and summary.json. A part that fails, or takes longer than its time
# limit, leaves the others as they are; the exit status is 1 then, and 2 where nothing can be run.
#
# --dry runs all parts on a CPU with tiny shapes, of the steps one, in float32. Its figures mean
# nothing. Its limits are ten times as long, as other work may run beside it.
set -uo pipefail

out=runs/gpu dry=
while [ $# -gt 0 ]; do
    case $1 in
    --out) out=${2:?--out needs a folder} && shift ;;
    --dry) dry=yes ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" && exit ;;
    *) echo "$1: no such option; there are --out and --dry" >&2 && exit 2 ;;
    esac
    shift
done
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache # each run of this script compiles anew

if [ "$dry" ]; then
    export JAX_PLATFORMS=cpu CUDA_VISIBLE_DEVICES=
    times=10 device=cpu dtypes=float32 widths=4
    step="--size 32 --depth 1 --batch 2 --runs 2" films="--films 8 --side 128"
    recipe="--config tiny" seeds=2
else
    if ! python3 -c 'import jax, sys; sys.exit(jax.default_backend() == "cpu")'; then
        echo 'JAX finds no GPU; pip install -e ".[cuda]", or try --dry' >&2
        exit 2
    fi
    times=1 device=gpu dtypes="bfloat16 float32" widths="64 16"
    step="--batch 16 --runs 30" films="--films 256 --side 512" seeds=3
    recipe="--config unet --config.model.dtype=bfloat16 --config.data.phantom_train=256
        --config.train.num_epochs=3 --config.data.loader=device --config.train.steps_per_call=8"
fi
peers=jaxlung
if python3 -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)'; then
    peers+=,torch-compile-channels-last
else
    echo "PyTorch is not installed: the rows are ours alone"
fi

# A folder of predictions has a summary of its own, which is not ours to replace.
if [ -e "$out/summary.csv" ]; then
    echo "$out holds other results; name another --out" >&2
    exit 2
fi
rm -f "$out"/parts.tsv "$out"/predict.json "$out"/summary.md "$out"/summary.json "$out"/train-*/speed.*

total=$((450 * times)) # seconds; the rest of the 8 minutes is for the summary
failed=0

part() { # NAME SECONDS COMMAND...
    local name=$1 limit=$(($2 * times)) left=$((total - SECONDS)) start=$SECONDS status=124
    shift 2
    [ "$left" -lt "$limit" ] && limit=$left
    if [ "$limit" -lt 5 ]; then
        echo "no time was left" >"$out/$name.txt"
    else # its own process group: what it has started ends with it
        timeout -k 5 "$limit" "$@" >"$out/$name.txt" 2>&1
        status=$?
    fi
    printf '%s\t%s\t%s\n' "$name" "$status" $((SECONDS - start)) >>"$out/parts.tsv"
    echo "$name: status $status after $((SECONDS - start)) s"
    if [ "$status" != 0 ]; then
        failed=1
        tail -n 5 "$out/$name.txt"
    fi
}

# The short ones come first, so that they get their time; then steps, the most telling ones first.
# shellcheck disable=SC2086  # options are words
part predict 60 python3 -m benchmarks.speed.predict_speed $films --repeats 1 --json "$out/predict.json"
part seeds 70 python3 -m jaxlung train $recipe --config.ensemble.members=$seeds --workdir "$work/seeds"
part fsdp 45 python3 -m jaxlung train $recipe --config.mesh.fsdp=True --workdir "$work/fsdp"
for dtype in $dtypes; do
    tasks=train,memory
    for width in $widths; do
        # The recipe for GPUs is 64 wide in bfloat16: with augmentation, and several steps a call.
        [ "$dtype-$width" = bfloat16-64 ] && extra=,augmented || extra=
        part "train-$width-$dtype" 120 python3 -m benchmarks.speed.speed --device $device \
            --dtype "$dtype" --width "$width" --patch 1 $step --repeats 1 --tasks $tasks$extra \
            --peers $peers --limit $((60 * times)) --out "$out/train-$width-$dtype"
    done
done
python3 -m benchmarks.speed.gpu_report "$out" "$work" || failed=1
exit $failed
