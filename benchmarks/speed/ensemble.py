"""Members trained at once against one after another: python benchmarks/speed/ensemble.py

Seconds to compile a training step and to do one, of M members by `vmap` and of a single run, on a
CPU's cores as devices; a single run has its batch split over them, the members are.
"""

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlung import steps
from jaxlung.config import Config, member_configs, parse_config
from jaxlung.devices.mesh import jit_init, jit_train_step, make_mesh, to_devices
from jaxlung.model import build_model
from jaxlung.system.start import keep_freed_memory, use_cores
from jaxlung.train.ensemble.loop import compile_members
from jaxlung.train.ensemble.mesh import make_ensemble_mesh, member_batch_sharding, member_sharding
from jaxlung.train.ensemble.steps import rate_table

SIZES = ((32, 4, 1, 8), (64, 8, 2, 8), (128, 16, 3, 8))  # side, width, depth, batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    keep_freed_memory()
    use_cores(8)
    count = arguments.members
    print("side width depth batch   compile: one  all at once   a step: one  all  gain")
    for side, width, depth, batch_size in SIZES:
        config = parse_config(
            {
                "data": {"size": side},
                "model": {"width": width, "depth": depth},
                "train": {"batch_size": batch_size},
                "ensemble": {"members": count},
            }
        )
        one = measured(*single(config), steps=arguments.steps)
        every = measured(*together(config), steps=arguments.steps)
        print(
            f"{side:4} {width:5} {depth:5} {batch_size:5}   {one[0]:12.1f} s {every[0]:10.1f} s   "
            f"{1e3 * one[1]:8.1f} ms {1e3 * every[1]:6.1f} ms  {count * one[1] / every[1]:.2f}x",
            flush=True,
        )


def example(config: Config) -> dict[str, np.ndarray]:
    shape = (config.train.batch_size, config.data.size, config.data.size)
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, shape).astype(np.uint8),
        "mask": rng.integers(0, 2, shape).astype(np.uint8),
    }


def single(config: Config) -> tuple[Callable[..., Any], Any]:
    mesh = make_mesh(config.train.batch_size)
    model = build_model(config.model)
    optimizer, _ = steps.make_optimizer(config.optim, steps_per_epoch=10, num_epochs=10)
    options: dict[str, Any] = {"model": model, "optimizer": optimizer}
    state = jit_init(functools.partial(steps.init_state, size=config.data.size, **options), mesh)(
        jax.random.key(0)
    )
    train = jit_train_step(
        functools.partial(
            steps.train_step,
            augment_config=config.augment,
            loss_config=config.loss,
            key=jax.random.key(1),
            **options,
        ),
        mesh,
    )
    batch = to_devices(example(config), mesh)
    return lambda state: train(state, batch)[0], state


def together(config: Config) -> tuple[Callable[..., Any], Any]:
    configs = member_configs(config)
    mesh = make_ensemble_mesh(len(configs), config.train.batch_size)
    compiled = compile_members(config, mesh, shared=True)
    keys = jnp.stack([jax.random.split(jax.random.key(c.train.seed)) for c in configs])
    place = member_sharding(mesh)
    rates, step_keys, active = jax.device_put(
        (rate_table(configs, [10] * len(configs)), keys[:, 1], np.ones(len(configs), bool)),
        place,
    )
    batch = jax.device_put(example(config), member_batch_sharding(mesh, shared=True))
    state = compiled.init(keys[:, 0]).members
    return lambda state: compiled.train(state, batch, step_keys, rates, active)[0], state


def measured(step: Callable[[Any], Any], state: Any, *, steps: int) -> tuple[float, float]:
    """Seconds of the first call, and the least of the others."""
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        state = jax.block_until_ready(step(state))
        seconds.append(time.perf_counter() - start)
    return seconds[0], min(seconds[1:])


if __name__ == "__main__":
    main()
