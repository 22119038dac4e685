"""Times a U-Net's parts as XLA's CPU compiler runs them: python benchmarks/speed/xla_cpu.py

Small programs without jaxlung, for reports to XLA and as the evidence in docs/performance.md. They
show when `jaxlung.model.conv` (1 and 5) and layers of `jaxlung.model.layers` (2 and 3) may go:
1. 3x3 convolutions (forward, input gradient, filter gradient) of each of the network's shapes:
   GFLOP/s, and how many cores were busy;
2. sums for GroupNorm, by group and by channel; 3. the gradient of 2x2 max pooling, as a window
reduction and as the maximum of a reshaped axis; 4. a convolution in a loop and outside;
5. the filter gradient of 16 channels, which takes as long for one image as for eight, unless the
padding is written out.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def main() -> None:
    key = jax.random.key(0)
    a = jax.random.normal(key, (2048, 2048))
    print(f"matrix product: {2 * 2048**3 / busy(jax.jit(lambda a: a @ a), a)[0] / 1e9:.0f} GFLOP/s")
    for side, channels, features in (
        (256, 16, 16),
        (256, 32, 16),
        (128, 16, 16),
        (128, 32, 32),
        (64, 64, 64),
        (32, 128, 128),
        (16, 256, 256),
    ):
        x = jax.random.normal(key, (8, side, side, channels))
        g = jax.random.normal(key, (8, side, side, features))
        w = jax.random.normal(key, (3, 3, channels, features))
        flops = 2 * x.size * features * 9
        cells = []
        for name, run in {
            "forward": lambda x, w, g: conv(x, w),
            "input gradient": lambda x, w, g: jax.vjp(conv, x, w)[1](g)[0],
            "filter gradient": lambda x, w, g: jax.vjp(conv, x, w)[1](g)[1],
        }.items():
            seconds, cores = busy(jax.jit(run), x, w, g)
            cells.append(f"{name} {flops / seconds / 1e9:.0f} GFLOP/s on {cores:.1f} cores")
        print(f"{side}x{side}, {channels} to {features}: {'; '.join(cells)}", flush=True)

    x = jax.random.normal(key, (4, 256, 256, 16))
    by_group = jax.jit(lambda x: x.reshape(4, 256, 256, 8, 2).sum((1, 2, 4)))
    by_channel = jax.jit(lambda x: x.sum((1, 2)).reshape(4, 8, 2).sum(2))
    print(
        f"sums by group {1e3 * busy(by_group, x)[0]:.2f} ms, by channel and then by group "
        f"{1e3 * busy(by_channel, x)[0]:.2f} ms"
    )

    def windows(x: jax.Array) -> jax.Array:
        start, one = (1, 2, 2, 1), -jnp.inf
        return jax.lax.reduce_window(x, one, jax.lax.max, start, start, "VALID").sum()

    def reshaped(x: jax.Array) -> jax.Array:
        return x.reshape(4, 128, 2, 128, 2, 16).max((2, 4)).sum()

    by_window, by_axis = (busy(jax.jit(jax.grad(f)), x)[0] for f in (windows, reshaped))
    print(
        f"gradient of max pooling: windows {1e3 * by_window:.1f} ms, "
        f"reshaped {1e3 * by_axis:.1f} ms"
    )

    x, w = jax.random.normal(key, (4, 64, 64, 32)), jax.random.normal(key, (3, 3, 32, 32)) / 17
    unrolled = jax.jit(lambda x: conv(conv(conv(conv(x, w), w), w), w))
    looped = jax.jit(lambda x: jax.lax.fori_loop(0, 4, lambda _, x: conv(x, w), x))
    print(
        f"four convolutions: unrolled {1e3 * busy(unrolled, x)[0]:.1f} ms, in a loop "
        f"{1e3 * busy(looped, x)[0]:.1f} ms"
    )

    for images in (1, 2, 4, 8):
        x, g = (jax.random.normal(k, (images, 128, 128, 16)) for k in jax.random.split(key))
        w = jnp.zeros((3, 3, 16, 16))
        implicit = jax.jit(lambda x, w, g: jax.vjp(conv, x, w)[1](g)[1])
        explicit = jax.jit(lambda x, w, g: jax.vjp(padded_conv, x, w)[1](g)[1])
        np.testing.assert_allclose(implicit(x, w, g), explicit(x, w, g), rtol=1e-3, atol=0.1)
        print(
            f"filter gradient, 128x128, 16 to 16, {images} images: padding in the convolution "
            f"{1e3 * busy(implicit, x, w, g)[0]:.1f} ms, before it "
            f"{1e3 * busy(explicit, x, w, g)[0]:.1f} ms",
            flush=True,
        )


def padded_conv(x_BxHxWxC: jax.Array, kernel: jax.Array) -> jax.Array:
    x = jnp.pad(x_BxHxWxC, ((0, 0), (1, 1), (1, 1), (0, 0)))
    dims = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=dims)


def conv(x_BxHxWxC: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x_BxHxWxC, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def busy(run: Callable[..., Any], *arrays: jax.Array, times: int = 10) -> tuple[float, float]:
    """Returns seconds a call, and how many cores are busy on average."""
    for _ in range(2):
        jax.block_until_ready(run(*arrays))
    wall, used = time.perf_counter(), time.process_time()
    for _ in range(times):
        jax.block_until_ready(run(*arrays))
    wall, used = time.perf_counter() - wall, time.process_time() - used
    return wall / times, used / wall


if __name__ == "__main__":
    main()
