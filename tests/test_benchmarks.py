"""The benchmarks measure the same network everywhere, and count its work rightly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import speed
from benchmarks.peers.contender import Spec, unet_macs
from jaxlung.model import UNet


@pytest.mark.parametrize(("width", "gmacs"), [(64, 48.1), (32, 12.0), (16, 3.0)])
def test_macs_of_the_classic_unet(width, gmacs):
    assert unet_macs(256, width, 4, 1) / 1e9 == pytest.approx(gmacs, abs=0.06)


def test_macs_by_hand():
    """Size 4, 2 wide, depth 1: encoder, bottleneck, up, decoder, head."""
    encoder, bottleneck = 16 * 9 * (1 * 2 + 2 * 2), 4 * 9 * (2 * 4 + 4 * 4)
    up, decoder, head = 4 * 4 * 4 * 2, 16 * 9 * (4 * 2 + 2 * 2), 16 * 2
    assert unet_macs(4, 2, 1, 1) == encoder + bottleneck + up + decoder + head


@pytest.mark.parametrize("patch", [1, 2])
def test_pytorchs_network_is_the_same(patch):
    torch = pytest.importorskip("torch", reason='PyTorch is of the extra "bench"')
    from benchmarks.peers.torch_unet import TorchUNet

    ours, theirs = UNet(width=4, depth=2, patch=patch), TorchUNet(4, 2, patch)
    image = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    shapes = jax.eval_shape(ours.init, jax.random.key(0), image)["params"]
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)

    def conv(name):  # [H, W, I, O] to [O, I, H, W]
        return {"weight": params[name]["kernel"].transpose(3, 2, 0, 1)} | bias(name)

    def bias(name):
        return {"bias": params[name]["bias"].reshape(-1)} if "bias" in params[name] else {}

    def up(name):  # [1x1 to 2x2 blocks of O] to [I, O, 2, 2]
        kernel = params[name]["blocks"]["kernel"]
        return {"weight": kernel.reshape(len(kernel), 2, 2, -1).transpose(0, 3, 1, 2)} | bias(name)

    parts = {"head": up("head") if patch == 2 else conv("head")}
    if patch == 2:
        parts["stem"] = conv("stem")
    names = {"bottleneck": "bottleneck"}
    for level in range(2):
        names |= {f"encoder.{level}": f"encoder{level}", f"decoder.{level}": f"decoder{level}"}
        parts[f"up.{level}"] = up(f"up{level}")
    for theirs_name, ours_name in names.items():
        for i in range(2):
            norm = params[f"{ours_name}_norm{i}"]
            parts[f"{theirs_name}.conv{i}"] = conv(f"{ours_name}_conv{i}")
            parts[f"{theirs_name}.norm{i}"] = {"weight": norm["scale"], "bias": norm["bias"]}
    theirs.load_state_dict(
        {f"{part}.{k}": torch.tensor(v) for part, kv in parts.items() for k, v in kv.items()}
    )
    expected = jax.jit(ours.apply)({"params": params}, jnp.asarray(image))
    with torch.inference_mode():
        found = theirs(torch.from_numpy(image.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_table_takes_ratios_within_rounds():
    """Medians of either, but the ratio of what ran in the same round."""

    def figures(train):
        return {"train": train, "predict_1": 1.0, "predict_8": 4.0, "predict_32": 1.0,
                "first_step_seconds": 2.0, "peak_bytes": 2.0**30}  # fmt: skip

    record = {
        "spec": Spec()._asdict(),
        "peak_flops": 8 * unet_macs(256, 16, 4, 1),
        "machine": {"processor": "P", "cores": 2, "versions": {"jax": "1"}, "commit": "abc"},
        "rounds": {
            "jaxlung, patch 1": [figures(10.0), figures(30.0), figures(20.0)],
            "torch, patch 1": [figures(5.0), figures(10.0), figures(20.0)],
        },
    }
    lines = speed.table(record).splitlines()
    assert lines[2].startswith("| jaxlung, patch 1 | 20.0 |")
    assert lines[3].startswith("| torch, patch 1 | 10.0 (x2.00) |")
    assert lines[3].endswith("| 2.0 | 1.00 | 750% | 100% |")
    assert "commit abc" in lines[-1]
