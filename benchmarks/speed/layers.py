"""Times each layer of a training step: python benchmarks/speed/layers.py [--patch 1] [--batch 8]

It times each 3x3 convolution of the U-Net alone (forward, input gradient, filter gradient), and
normalisation with ReLU, pooling and up-sampling of each level (forward and backward together). Each
runs in jaxlung, with XLA's own convolution, and in PyTorch with channels-last, in a process of its
own; JAX splits the batch over the cores as in training. Prints a table and the sums, and writes
DIR/layers.md. When the sums of "conv" for jaxlung and XLA are equal, remove `jaxlung.model.conv`.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

WIDTH, DEPTH, SIZE = 16, 4, 256


class Layer(NamedTuple):
    name: str
    kind: str  # "conv", "norm" (with ReLU), "pool" or "up"
    side: int
    channels: int
    features: int


def layers(patch: int) -> list[Layer]:
    """Lists the network's layers from the first to the last, without the stem and the head."""
    found: list[Layer] = []

    def block(name: str, side: int, channels: int, features: int) -> None:
        for i, inputs in enumerate((channels, features)):
            found.append(Layer(f"{name} conv{i}", "conv", side, inputs, features))
            found.append(Layer(f"{name} norm{i}", "norm", side, features, features))

    side, channels = SIZE // patch, WIDTH if patch == 2 else 1
    for level in range(DEPTH):
        features = WIDTH * 2**level
        block(f"encoder{level}", side, channels, features)
        found.append(Layer(f"pool{level}", "pool", side, features, features))
        side, channels = side // 2, features
    block("bottleneck", side, channels, WIDTH * 2**DEPTH)
    for level in reversed(range(DEPTH)):
        features = WIDTH * 2**level
        found.append(Layer(f"up{level}", "up", side, 2 * features, features))
        side *= 2
        block(f"decoder{level}", side, 2 * features, features)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patch", type=int, choices=(1, 2), default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/layers"))
    arguments = parser.parse_args()
    work = layers(arguments.patch)
    times = []
    for measure in (by_jaxlung, by_xla, by_torch):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            times.append(pool.apply(measure, (work, arguments.batch)))
    text = table(work, arguments.batch, times)
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "layers.md").write_text(text)


def table(work: list[Layer], batch: int, times: list[list[list[float]]]) -> str:
    """Writes Markdown: ms in jaxlung / XLA / PyTorch; in brackets GFLOP/s of first and last."""
    lines = ["| layer | pixels, channels | forward | input gradient | filter gradient |"]
    lines += ["|---" * 5 + "|"]
    for layer, *three in zip(work, *times, strict=True):
        cells = [layer.name, f"{layer.side}x{layer.side}, {layer.channels} to {layer.features}"]
        gflop = 2e-9 * batch * layer.side**2 * 9 * layer.channels * layer.features
        for seconds in zip(*three, strict=True):
            text = " / ".join(f"{1e3 * value:.1f}" for value in seconds)
            if layer.kind == "conv" and all(seconds):
                text += f" ({gflop / seconds[0]:.0f} / {gflop / seconds[-1]:.0f})"
            cells.append(text if any(seconds) else "")
        if layer.kind != "conv":
            cells[2:] = [f"with backward {cells[2]}", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for kind in ("conv", "norm", "pool", "up"):
        sums = [
            1e3 * sum(sum(t) for w, t in zip(work, own, strict=True) if w.kind == kind)
            for own in times
        ]
        lines.append(f"- {kind}: {' / '.join(f'{value:.0f}' for value in sums)} ms")
    return "\n".join(lines) + "\n"


def by_jaxlung(work: list[Layer], batch: int) -> list[list[float]]:
    return by_jax(work, batch, own_convolution=True)


def by_xla(work: list[Layer], batch: int) -> list[list[float]]:
    return by_jax(work, batch, own_convolution=False)


def by_jax(work: list[Layer], batch: int, own_convolution: bool) -> list[list[float]]:
    from jaxlung.system.start import keep_freed_memory, use_cores

    keep_freed_memory()
    use_cores(batch)
    import flax.linen as nn
    import jax

    from jaxlung.devices.mesh import batch_sharding, make_mesh, replicated
    from jaxlung.model.conv import by_xla, conv3x3
    from jaxlung.model.layers import GroupNorm, UpConv, max_pool

    mesh = make_mesh(batch)
    split, whole = batch_sharding(mesh), replicated(mesh)

    conv = conv3x3 if own_convolution else by_xla

    def seconds(layer: Layer) -> list[float]:
        x, g, w = (
            jax.device_put(a, s)
            for a, s in zip(arrays(layer, batch), (split, split, whole), strict=True)
        )
        if layer.kind == "conv":
            first = layer.channels == 1  # nothing asks for the image's own gradient
            runs = [
                (jax.jit(conv, out_shardings=split), x, w),
                None
                if first
                else (
                    jax.jit(lambda x, w, g: jax.vjp(conv, x, w)[1](g)[0], out_shardings=split),
                    x,
                    w,
                    g,
                ),
                (
                    jax.jit(lambda x, w, g: jax.vjp(conv, x, w)[1](g)[1], out_shardings=whole),
                    x,
                    w,
                    g,
                ),
            ]
            return [
                median(lambda r=r: jax.block_until_ready(r[0](*r[1:]))) if r else 0.0 for r in runs
            ]
        if layer.kind == "pool":
            both = jax.jit(lambda x, g: jax.vjp(max_pool, x)[1](g))
            return [median(lambda: jax.block_until_ready(both(x, g)))]
        module: nn.Module = GroupNorm(8) if layer.kind == "norm" else UpConv(layer.features)
        params = jax.jit(module.init, out_shardings=whole)(jax.random.key(0), x)

        def apply(params: Any, x: jax.Array) -> jax.Array:
            y: Any = module.apply(params, x)
            return nn.relu(y) if layer.kind == "norm" else y

        both = jax.jit(lambda params, x, g: jax.vjp(apply, params, x)[1](g))
        return [median(lambda: jax.block_until_ready(both(params, x, g)))]

    return [seconds(layer) for layer in work]


def by_torch(work: list[Layer], batch: int) -> list[list[float]]:
    import torch
    from torch import nn

    def tensor(a: np.ndarray) -> torch.Tensor:
        moved = torch.from_numpy(np.ascontiguousarray(np.moveaxis(a, -1, 1)))
        return moved.to(memory_format=torch.channels_last)

    def seconds(layer: Layer) -> list[float]:
        x_array, g_array, w_array = arrays(layer, batch)
        x, g = tensor(x_array), tensor(g_array)
        if layer.kind == "conv":
            w = torch.from_numpy(np.ascontiguousarray(w_array.transpose(3, 2, 0, 1)))
            w = w.to(memory_format=torch.channels_last)

            def backward(*mask: bool) -> Callable[[], Any]:
                return lambda: torch.ops.aten.convolution_backward(
                    g, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask
                )

            first = layer.channels == 1
            return [
                median(lambda: nn.functional.conv2d(x, w, padding=1)),
                0.0 if first else median(backward(True, False, False)),
                median(backward(False, True, False)),
            ]
        module: nn.Module = {
            "norm": lambda: nn.Sequential(nn.GroupNorm(8, layer.features), nn.ReLU()),
            "pool": lambda: nn.MaxPool2d(2),
            "up": lambda: nn.ConvTranspose2d(layer.channels, layer.features, 2, 2),
        }[layer.kind]().to(memory_format=torch.channels_last)
        x.requires_grad_()

        def both() -> None:
            module.zero_grad()
            x.grad = None
            module(x).backward(g)

        return [median(both)]

    return [seconds(layer) for layer in work]


def arrays(layer: Layer, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws input, gradient of the output, and 3x3 kernel: float32, channels last."""
    rng = np.random.default_rng(0)
    side = {"pool": layer.side // 2, "up": 2 * layer.side}.get(layer.kind, layer.side)
    shapes = (
        (batch, layer.side, layer.side, layer.channels),
        (batch, side, side, layer.features),
        (3, 3, layer.channels, layer.features),
    )
    x, g, w = (rng.standard_normal(shape, np.float32) for shape in shapes)
    return x, g, w


def median(run: Callable[[], Any], times: int = 7) -> float:
    run(), run()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


if __name__ == "__main__":
    main()
