"""jaxlung as its commands run it: each core is a device, the steps are those of `jaxlung.steps`."""

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.speed.peers.contender import Contender, Spec, example

STEPS_A_CALL = 8  # of data that lie on the accelerator


def build(spec: Spec, mode: str) -> Contender:
    from jaxlung.system.start import keep_freed_memory, use_cores

    keep_freed_memory()
    use_cores(spec.batch)

    import jax
    import jax.numpy as jnp
    import optax

    from jaxlung import steps
    from jaxlung.augmentation import augment
    from jaxlung.config import AugmentConfig, ModelConfig
    from jaxlung.devices.mesh import (
        batch_sharding,
        jit_init,
        jit_predict_step,
        jit_train_step,
        jit_train_steps,
        make_mesh,
        replicated,
        to_devices,
    )
    from jaxlung.losses import soft_dice_loss
    from jaxlung.model import build_model, to_probability
    from jaxlung.system.threads import largest_divisor

    if spec.device == "gpu" and jax.default_backend() == "cpu":
        raise SystemExit("JAX finds no GPU")
    model = build_model(
        ModelConfig(width=spec.width, depth=spec.depth, patch=spec.patch, dtype=spec.dtype)
    )
    mesh = make_mesh(spec.batch)
    optimizer = optax.adam(1e-3)
    recipe = steps.Recipe(model, optimizer)
    init = functools.partial(steps.init_state, recipe=recipe, size=spec.size)
    key = jax.random.key(0)
    state: Any = None  # until training begins

    def begin() -> None:
        nonlocal state
        if state is None:
            state = jit_init(init, mesh)(jax.random.key(0))

    def plain_step(state: Any, batch: Any, key: jax.Array) -> Any:
        def mean_loss(params: Any) -> jax.Array:
            image = batch["image"][..., None]
            logits: Any = model.apply({"params": params}, image, train=True)
            return soft_dice_loss(logits, batch["mask"][..., None]).mean()

        loss, grads = jax.value_and_grad(mean_loss)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state.replace(params=params, opt_state=opt_state, step=state.step + 1), loss

    image_BxSxS, mask_BxSxS = example(spec)
    batch = to_devices({"image": image_BxSxS, "mask": mask_BxSxS}, mesh)
    train_step = jit_train_step(plain_step, mesh, replicated(mesh))

    def train() -> float:
        nonlocal state
        begin()
        state, loss = train_step(state, batch, key)
        return float(loss)

    def forward(params: Any, image_BxSxS: jax.Array) -> jax.Array:
        logits: Any = model.apply({"params": params}, image_BxSxS[..., None])
        return to_probability(logits)[..., 0]

    predict_step = jit_predict_step(forward)
    devices = jax.local_devices()

    @functools.cache
    def placed(count: int) -> Any:
        few = make_mesh(count, devices[:count])
        if state is None:  # who only predicts has parameters at hand: none are drawn at random
            shapes = jax.eval_shape(init, jax.random.key(0)).params
            params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        else:
            params = state.params
        return jax.device_put(params, replicated(few)), few

    def predict(image_BxSxS: np.ndarray) -> np.ndarray:
        params, few = placed(largest_divisor(len(image_BxSxS), len(devices)))
        return np.asarray(predict_step(params, to_devices({"x": image_BxSxS}, few)["x"]))

    def extra() -> dict[str, float]:
        """Measures what users' steps add: augmentation, as a share of the whole step."""
        begin()
        step = functools.partial(steps.train_step, recipe=recipe)
        raw = {
            "image": (image_BxSxS * 255).astype(np.uint8),
            "mask": (mask_BxSxS * 255).astype(np.uint8)[..., None],
            "labelled": np.ones((len(mask_BxSxS), 1), bool),
        }
        moved = jax.jit(
            lambda step, image, mask: augment(
                jax.random.fold_in(jax.random.key(0), step),
                image[..., None],
                mask[..., None],
                AugmentConfig(),
            ),
            out_shardings=batch_sharding(mesh),
        )
        images, masks = batch["image"], batch["mask"]
        whole = jit_train_step(step, mesh, replicated(mesh))
        placed_raw = to_devices(raw, mesh)

        def whole_step() -> None:
            nonlocal state
            state, metrics = whole(state, placed_raw, key)
            float(metrics["loss"])

        seconds = median_seconds(whole_step)
        apart = median_seconds(lambda: jax.block_until_ready(moved(jnp.int32(0), images, masks)))
        found = {"train_augmented": spec.batch / seconds, "augment_share": apart / seconds}
        if spec.device == "gpu":
            several = jit_train_steps(step, mesh, replicated(mesh))
            resident = jax.device_put(raw, replicated(mesh))
            indices_KxB = np.tile(np.arange(spec.batch, dtype=np.int32), (STEPS_A_CALL, 1))
            batches = (resident, indices_KxB, np.int32(STEPS_A_CALL))

            def several_steps() -> None:
                nonlocal state
                state, metrics = several(state, batches, key)
                np.asarray(metrics["loss"])

            seconds = median_seconds(several_steps)
            found["train_resident"] = STEPS_A_CALL * spec.batch / seconds
        return found

    def peak_bytes() -> int:
        return int(devices[0].memory_stats()["peak_bytes_in_use"])

    return Contender(train, predict, peak_bytes if spec.device == "gpu" else None, extra)


def median_seconds(run: Callable[[], object]) -> float:
    run(), run()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
