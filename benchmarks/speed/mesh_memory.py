"""What a training step needs of each device on several meshes: memory and arithmetic, by XLA.

python benchmarks/speed/mesh_memory.py --size 2048

Compiles the step for virtual devices and asks XLA; nothing is run, and no memory of that size is
needed. Peak memory is arguments, results and temporary buffers, less what is donated.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))


def measure(size: int, batch: int, mesh: dict, width: int, patch: int) -> dict[str, float]:
    import jax

    from configs import unet
    from jaxlung.config import parse_config
    from jaxlung.devices.mesh import make_mesh
    from jaxlung.train.compiled import compile_steps

    config = unet.get_config()
    config.data.size, config.model.width, config.model.patch = size, width, patch
    config.train.batch_size = batch
    config.mesh.update(mesh)
    config = parse_config(config)
    placed = make_mesh(batch, config=config.mesh)
    compiled = compile_steps(config, placed, 10)
    state = jax.eval_shape(compiled.init, jax.random.key(0))
    shape = jax.ShapeDtypeStruct((batch, size, size), "uint8")
    key = jax.eval_shape(lambda: jax.random.key(0))
    examples = {
        "image": shape,
        "mask": jax.ShapeDtypeStruct((*shape.shape, 1), "uint8"),
        "labelled": jax.ShapeDtypeStruct((batch, 1), bool),
    }
    program = compiled.train.lower(state, examples, key).compile()
    memory = program.memory_analysis()
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
    return {"MiB": peak / 2**20, "GFLOP": program.cost_analysis()["flops"] / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--patch", type=int, default=2)
    parser.add_argument("--one", help="JSON of a single measurement, in a process of its own")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(**json.loads(args.one))))
        return
    rows = [("one image, rows over N", n, 1, {"space": n}) for n in (1, 2, 4, 8)]
    rows += [("N images over N", n, n, {}) for n in (2, 4, 8)]
    rows += [("N images over N, fsdp", n, n, {"fsdp": True}) for n in (2, 4, 8)]
    first = None
    print("| | devices | MiB a device | of one device | GFLOP a device | of one device |")
    print("|---|---|---|---|---|---|")
    for name, devices, batch, mesh in rows:
        one = {
            "size": args.size,
            "batch": batch,
            "mesh": mesh,
            "width": args.width,
            "patch": args.patch,
        }
        start = (
            f"import jax; jax.config.update('jax_num_cpu_devices', {devices}); "
            "from benchmarks.speed.mesh_memory import main; main()"
        )
        command = [sys.executable, "-c", start, "--one", json.dumps(one)]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        first = first or found
        print(
            f"| {name} | {devices} | {found['MiB']:.0f} | {found['MiB'] / first['MiB']:.3f} "
            f"| {found['GFLOP']:.1f} | {found['GFLOP'] / first['GFLOP']:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
