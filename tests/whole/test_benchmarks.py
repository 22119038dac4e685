"""The benchmarks measure the same network everywhere, and count its work rightly."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.quality import ct_pictures
from benchmarks.speed import end_to_end, speed, speed_report, volume
from benchmarks.speed.peers.contender import Spec, unet_macs
from jaxlung.io.ct.hounsfield import read_scan
from jaxlung.io.images import read_film
from jaxlung.model import UNet

# What the scripts import of the repository beside the package, which alone is installed.
OF_THE_REPOSITORY = re.compile(r"^\s*(?:from|import) (benchmarks|configs)\b", re.MULTILINE)
SCRIPTS = [
    path
    for path in sorted(Path(speed.__file__).parent.glob("*.py"))
    if OF_THE_REPOSITORY.search(path.read_text()) and "argparse" in path.read_text()
]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_start_from_any_folder(path, tmp_path):
    """As documented, `python benchmarks/NAME.py`; what they import later is there too."""
    program = (
        f"import sys, runpy; sys.path[0] = {str(path.parent)!r}; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_path({str(path)!r}, run_name='__main__')\n"
        f"except SystemExit as end: assert not end.code\n"
        f"import importlib.util as u\n"
        f"for name in {OF_THE_REPOSITORY.findall(path.read_text())!r}:\n"
        f"    assert u.find_spec(name), name\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize(("width", "gmacs"), [(64, 48.1), (32, 12.0), (16, 3.0)])
def test_macs_of_the_classic_unet(width, gmacs):
    assert unet_macs(256, width, 4, 1) / 1e9 == pytest.approx(gmacs, abs=0.06)


def test_macs_by_hand():
    """Size 4, 2 wide, depth 1: encoder, bottleneck, up, decoder, head."""
    encoder, bottleneck = 16 * 9 * (1 * 2 + 2 * 2), 4 * 9 * (2 * 4 + 4 * 4)
    up, decoder, head = 4 * 4 * 4 * 2, 16 * 9 * (4 * 2 + 2 * 2), 16 * 2
    assert unet_macs(4, 2, 1, 1) == encoder + bottleneck + up + decoder + head


def random_unet(patch):
    """A small network of ours, every parameter random, with an image and its logits."""
    model = UNet(width=4, depth=2, patch=patch)
    image = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    rng = np.random.default_rng(1)

    def draw(leaf):
        fan_in = max(1, leaf.size // leaf.shape[-1])  # keeps values of order 1
        return (rng.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    params = jax.tree.map(draw, shapes)
    return params, image, np.asarray(jax.jit(model.apply)({"params": params}, jnp.asarray(image)))


def blocks(up):
    """The kernel of an UpConv as [2, 2, in, out]."""
    kernel = up["blocks"]["kernel"]
    return kernel.reshape(len(kernel), 2, 2, -1).transpose(1, 2, 0, 3)


@pytest.mark.parametrize("patch", [1, 2])
def test_pytorchs_network_is_the_same(patch):
    torch = pytest.importorskip("torch", reason='PyTorch is of the extra "bench"')
    from benchmarks.speed.peers.torch_unet import TorchUNet

    params, image, expected = random_unet(patch)
    theirs = TorchUNet(4, 2, patch)

    def part(name):  # kernels [H, W, in, out] to [out, in, H, W], of transposed [in, out, H, W]
        ours = params[name]
        bias = {"bias": ours["bias"].reshape(-1)} if "bias" in ours else {}
        if "scale" in ours:
            return {"weight": ours["scale"]} | bias
        if "blocks" in ours:
            return {"weight": blocks(ours).transpose(2, 3, 0, 1)} | bias
        return {"weight": ours["kernel"].transpose(3, 2, 0, 1)} | bias

    names = {"head": "head"} | ({"stem": "stem"} if patch == 2 else {})
    for name in ("bottleneck", "encoder0", "encoder1", "decoder0", "decoder1"):
        dotted = re.sub(r"(\d)", r".\1", name)
        names |= {f"{dotted}.{k}{i}": f"{name}_{k}{i}" for k in ("conv", "norm") for i in (0, 1)}
    names |= {f"up.{level}": f"up{level}" for level in (0, 1)}
    assert sorted(names.values()) == sorted(params)
    state = {
        f"{d}.{k}": torch.tensor(v) for d, ours in names.items() for k, v in part(ours).items()
    }
    theirs.load_state_dict(state)
    with torch.inference_mode():
        found = theirs(torch.from_numpy(image.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("patch", [1, 2])
def test_keras_network_is_the_same(patch):
    keras = pytest.importorskip("keras", reason='Keras is of the extra "bench"')
    pytest.importorskip("tensorflow", reason="Keras is compared on TensorFlow")
    from benchmarks.speed.peers.keras_unet import keras_unet

    params, image, expected = random_unet(patch)
    theirs = keras_unet(Spec(size=16, width=4, depth=2, patch=patch))
    order = ["stem"] if patch == 2 else []
    for name in ("encoder0", "encoder1", "bottleneck", "up1", "decoder1", "up0", "decoder0"):
        parts = [f"{name}_{k}{i}" for i in (0, 1) for k in ("conv", "norm")]
        order += [name] if name.startswith("up") else parts
    layers = [layer for layer in theirs.layers if layer.weights]
    assert len(layers) == len(order) + 1 == len(params)
    for layer, name in zip(layers, [*order, "head"], strict=True):
        ours = params[name]
        if "blocks" in ours:  # [2, 2, out, in]
            layer.set_weights([blocks(ours).transpose(0, 1, 3, 2), ours["bias"].reshape(-1)])
        else:
            layer.set_weights([ours[k] for k in ("kernel", "scale", "bias") if k in ours])
    logits = keras.Model(theirs.input, theirs.layers[-1].input)
    np.testing.assert_allclose(np.asarray(logits(image)), expected, atol=1e-4)


def record_of(rounds):
    """What speed.json holds, of training images a second in each round."""

    def figures(train):
        return {
            "train": train,
            "predict_1": 1.0,
            "predict_8": 4.0,
            "predict_32": 1.0,
            "first_step_seconds": 2.0,
            "peak_bytes": 2.0**30,
        }

    machine = {"processor": "P", "accelerator": "", "cores": 2, "versions": {}, "commit": "abc"}
    return {
        "spec": Spec()._asdict(),
        "peak_flops": {"jax": 8.0 * unet_macs(256, 16, 4, 1), "torch": 1.0},
        "machine": machine,
        "rounds": {name: [figures(rate) for rate in rates] for name, rates in rounds.items()},
    }


def test_table_takes_ratios_within_rounds():
    """Medians of either, but the ratio of what ran in the same round."""
    rounds = {"jaxlung, patch 1": [10.0, 30.0, 20.0], "keras, patch 1": [5.0, 10.0, 20.0]}
    lines = speed_report.table(record_of(rounds)).splitlines()
    assert len(lines) == 6
    assert lines[2].startswith("| jaxlung, patch 1 | 20.0 | 1.0 |")
    assert lines[3].startswith("| keras, patch 1 | 10.0 (x2.00) |")
    assert lines[3].endswith("| 2.0 | 1.00 | 750% | 100% |")
    assert "commit abc" in lines[-1]


def test_table_has_pytorchs_best_setting_for_each_stem():
    rounds = {
        "jaxlung, patch 1": [10.0],
        "jaxlung, patch 2": [30.0],
        "monai, patch 1": [99.0],
        "torch-eager-contiguous, patch 1": [5.0],
        "torch-compile-contiguous, patch 1": [8.0],
        "torch-eager-contiguous, patch 2": [20.0],
    }
    text = speed_report.table(record_of(rounds))
    assert "| PyTorch's best, patch 1 | 8.0 (x1.25) compile-contiguous |" in text
    assert "| PyTorch's best, patch 2 | 20.0 (x1.50) eager-contiguous |" in text
    monai = next(line for line in text.splitlines() if line.startswith("| monai"))
    assert "another network" in monai and monai.endswith("|  |  |")  # our count is not of its work


def test_report_is_of_what_was_measured(tmp_path):
    """Tasks that were not asked for leave no columns; the files are written all the same."""
    record = record_of({"jaxlung, patch 1": [10.0, 12.0]})
    record["rounds"] = {"jaxlung, patch 1": [{"train": 10.0}, {"train": 12.0}]}
    speed_report.write(record, tmp_path)
    head = (tmp_path / "speed.md").read_text().splitlines()[0]
    assert head == "|  | train, images/s | utilisation, train |"
    assert {path.name for path in tmp_path.iterdir()} == {"speed.json", "speed.md", "speed.png"}


def test_contenders_by_group_and_by_name():
    assert speed.chosen(["torch", "jaxlung"]) == [
        "torch-eager-contiguous",
        "torch-eager-channels-last",
        "jaxlung",
    ]
    assert speed.chosen(["torch-compile-contiguous", "torch-compile"]) == [
        "torch-compile-contiguous",
        "torch-compile-channels-last",
    ]
    with pytest.raises(ValueError, match="'tinygrad'"):
        speed.chosen(["tinygrad"])


def test_missing_packages_leave_a_contender_out(monkeypatch, capsys):
    monkeypatch.setattr(
        speed.importlib.util, "find_spec", lambda name: None if name == "tensorflow" else name
    )
    runs = speed.plan(["keras", "jaxlung", "monai"], [1, 2], Spec())
    assert list(runs) == ["jaxlung, patch 1", "monai, patch 1", "jaxlung, patch 2"]
    assert "keras: left out, since tensorflow is not installed" in capsys.readouterr().out


def test_the_scan_that_is_timed_is_a_chest_in_hounsfield_units(tmp_path):
    pytest.importorskip("nibabel")
    volume.write_scan(tmp_path / "scan.nii.gz", (48, 64), 9)
    scan = read_scan(tmp_path / "scan.nii.gz")
    assert scan.voxels_ZxHxW.shape == (9, 48, 64) and scan.warnings == ()
    assert scan.spacing == pytest.approx((1.0, 0.7, 0.7))
    expected = volume.chest_slice(0.0, (48, 64), np.random.default_rng(0))
    np.testing.assert_array_equal(scan.voxels_ZxHxW[0], expected)  # feet first, and not mirrored
    lung_Z = (abs(scan.voxels_ZxHxW + 830) < 100).mean((1, 2))
    assert lung_Z[4] > 0.1 > 0.02 > max(lung_Z[0], lung_Z[-1])


def test_pictures_of_a_slice_are_scored_on_their_own_grid(tmp_path):
    """A perfect mask has a Dice of 1 in each, also in the copy of another size."""
    hu_HxW = volume.chest_slice(0.5, (512, 512), np.random.default_rng(0))
    paths = ct_pictures.write_pictures(hu_HxW, tmp_path)
    assert set(paths) == set(ct_pictures.NAMES)
    shown = {name: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for name, path in paths.items()}
    np.testing.assert_array_equal(shown["negative"], 255 - shown["lung window"])
    assert shown["256x256"].shape == (256, 256) and shown["JPEG 60"].shape == (512, 512)
    lung_HxW = np.hypot(*np.mgrid[-1:1:512j, -1:1:512j]) < 0.5
    assert ct_pictures.score(lung_HxW, lung_HxW) == 1.0
    assert ct_pictures.score(lung_HxW[::2, ::2], lung_HxW) > 0.99


def test_a_rate_is_that_of_the_middle():
    slow_start, slow_end = [-20.0, -10.0], [40.0, 60.0]
    steady = [i / 2 for i in range(17)]
    assert end_to_end.middle_rate([*slow_end, *steady, *slow_start]) == pytest.approx(2.0)
    assert end_to_end.middle_rate([*steady, 9.0, -9.0]) == pytest.approx(2.0)


def test_films_of_each_form_show_the_same(tmp_path):
    source = tmp_path / "films"
    source.mkdir()
    film = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    film = cv2.resize(film, (64, 64), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(source / "a.png"), film)
    for form, shape in (("512", (64, 64)), ("1024", (1024, 1024)), ("dicom", (2500, 2048))):
        [path] = end_to_end.make_films(source, tmp_path / form, form, 1).iterdir()
        found = read_film(path).image
        assert found.shape == shape
        small = cv2.resize(found.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA)
        assert np.corrcoef(small.ravel(), film.ravel())[0, 1] > 0.99
