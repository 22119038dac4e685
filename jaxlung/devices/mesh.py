"""The mesh, where arrays live on it, and the jit of each step: the same code for 1 device or N.

The mesh has three axes. "data" splits a batch. "space" splits the rows of each image; XLA exchanges
what convolutions need of their neighbours' rows. "model" splits the channels of each layer.
Parameters and optimiser state are split over "model", and over "data" with fsdp.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxlung.config import MeshConfig
from jaxlung.errors import InputError


def make_mesh(
    batch_size: int,
    devices: list[jax.Device] | None = None,
    config: MeshConfig = MeshConfig(),  # noqa: B008 (frozen)
    accumulate: int = 1,
) -> Mesh:
    """Returns a mesh of axes "data", "model" and "space" over all devices of all processes.

    Args:
        batch_size: global, of a whole update.
        devices: those to use; None: all.
        config: the axes' sizes.
        accumulate: parts of a batch, done one after another; each is split over "data".

    Raises:
        InputError: the axes do not multiply to the devices, or the batch does not divide over them.
    """
    devices = jax.devices() if devices is None else devices
    data = config.data or max(1, len(devices) // config.devices_per_image)
    if data * config.devices_per_image != len(devices):
        raise InputError(
            f"mesh.data={config.data or 'the rest'} x mesh.model={config.model} x "
            f"mesh.space={config.space} do not make up the {len(devices)} devices; "
            f"set axes whose product is {len(devices)}"
        )
    if batch_size % (data * accumulate):
        parts = f" in train.accumulate={accumulate} parts" if accumulate > 1 else ""
        raise InputError(
            f"train.batch_size={batch_size} does not divide over {data} devices{parts}; "
            f"use a multiple of {data * accumulate}"
        )
    # Auto axes: linen's layers do not name output shardings, so the partitioner infers them.
    return jax.make_mesh(
        (data, config.model, config.space),
        ("data", "model", "space"),
        axis_types=(AxisType.Auto,) * 3,
        devices=devices,
    )


def splits_layers(mesh: Mesh) -> bool:
    """Returns whether a convolution's rows or channels lie on several devices."""
    return mesh.shape["model"] * mesh.shape["space"] > 1


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what is whole on every device."""
    return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding whose first axis is split over "data"."""
    return NamedSharding(mesh, P("data"))


def state_sharding(state: Any, mesh: Mesh, *, fsdp: bool = False) -> Any:
    """Returns where each array of a train state, or of a part of one, lives: a tree of shardings.

    A kernel's last axis, its output channels, is split over "model". With fsdp the largest axis
    that is left and divides is split over "data". What is small, or does not divide, is whole.

    Args:
        state: arrays or their shapes. The rule goes by shapes alone, so that the optimiser's
            moments and the average lie where their parameters do.
    """

    def place(array: Any) -> NamedSharding:
        axes: list[str | None] = [None] * len(array.shape)
        if len(axes) > 1 and mesh.shape["model"] > 1 and array.shape[-1] % mesh.shape["model"] == 0:
            axes[-1] = "model"
        if len(axes) > 1 and fsdp:
            count = mesh.shape["data"]
            free = [i for i, size in enumerate(array.shape) if not axes[i] and size % count == 0]
            if free:
                axes[max(free, key=lambda i: array.shape[i])] = "data"
        return NamedSharding(mesh, P(*axes))

    return jax.tree.map(place, state)


def spread_rows(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    """Returns, for inside a step, what splits B over "data" and H over "space" of [B, H, ...]."""
    sharding = NamedSharding(mesh, P("data", "space"))
    return lambda image: jax.lax.with_sharding_constraint(image, sharding)


def gather_params(mesh: Mesh, *, fsdp: bool = False) -> Callable[[Any], Any]:
    """Returns, for inside a step, what makes parameters whole but for "model".

    With fsdp their gradient is split. Left to itself the partitioner may split a convolution by
    the axis that a kernel happens to be split by, and send images about instead of kernels.
    """

    def gather(params: Any) -> Any:
        return jax.lax.with_sharding_constraint(params, state_sharding(params, mesh))

    def split_grads(_: None, grads: Any) -> tuple[Any]:
        placed = state_sharding(grads, mesh, fsdp=True)
        return (jax.lax.with_sharding_constraint(grads, placed),)

    if not fsdp:
        return gather
    # A constraint's own transpose is itself, which would have every device hold every gradient.
    gather_and_split = jax.custom_vjp(gather)
    gather_and_split.defvjp(lambda params: (gather(params), None), split_grads)
    return gather_and_split


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Returns the rows of a global batch that this process's devices hold, ascending."""
    held: Any = batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
    rows = {row for index in held.values() for row in range(*index[0].indices(batch_size))}
    return np.array(sorted(rows))


def to_devices(
    batch: dict[str, np.ndarray], mesh: Mesh, batch_size: int | None = None
) -> dict[str, jax.Array]:
    """Splits a batch's first axis over the mesh.

    Args:
        batch: arrays of this process's `local_rows`; a single process has all rows.
        batch_size: of the global batch; None: that of the arrays.
    """
    sharding = batch_sharding(mesh)
    if batch_size is None:
        batch_size = len(next(iter(batch.values())))
    place = {row: i for i, row in enumerate(local_rows(mesh, batch_size))}

    def placed(array: np.ndarray) -> jax.Array:
        def shard(index: Any) -> np.ndarray:
            start, stop, _ = index[0].indices(batch_size)
            return array[place[start] : place[stop - 1] + 1]

        return jax.make_array_from_callback((batch_size, *array.shape[1:]), sharding, shard)

    return {name: placed(array) for name, array in batch.items()}


def jit_init(
    init: Callable[[jax.Array], Any], mesh: Mesh, *, fsdp: bool = False
) -> Callable[[jax.Array], Any]:
    """Jits init(key) -> state so that parameters are born where they live."""
    # Run once: on a CPU, half the time that full optimisation of its many random draws takes.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    options: Any = {"xla_backend_optimization_level": 1} if on_cpu else None
    shapes = jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)))
    return jax.jit(
        init, out_shardings=state_sharding(shapes, mesh, fsdp=fsdp), compiler_options=options
    )


def jit_train_step(
    step: Callable[..., Any], mesh: Mesh, state: Any, batch: NamedSharding | None = None
) -> Callable[..., Any]:
    """Jits step(state, batch, key) -> (state, metrics); the state's buffers are donated.

    The random key is an argument, so that runs that differ by seed alone share the program.

    Args:
        state: where it lives: its `state_sharding`, or one sharding for all of it.
        batch: where it lives; None: split over "data".
    """
    whole = replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(state, batch or batch_sharding(mesh), whole),
        out_shardings=(state, whole),
        donate_argnums=(0,),
    )


def jit_train_steps(step: Callable[..., Any], mesh: Mesh, state: Any) -> Callable[..., Any]:
    """Jits several of step(state, batch, key) as one dispatch; the state is donated.

    Args:
        state: where it lives: its `state_sharding`, or one sharding for all of it.

    Returns:
        train_steps(state, (resident, indices_KxB, count), key) -> (state, metrics [K]). It does
        the first `count` of K steps. `resident` holds arrays [N, ...], whole on each device; a
        step's batch is gathered from them, and split over the mesh.
    """

    def train_steps(state: Any, batches: Any, key: jax.Array) -> Any:
        resident, indices_KxB, count = batches

        def do_step(i: jax.Array, carry: Any) -> Any:
            state, metrics_K = carry
            batch = jax.tree.map(lambda array: array[indices_KxB[i]], resident)
            batch = jax.lax.with_sharding_constraint(batch, batch_sharding(mesh))
            state, metrics = step(state, batch, key)
            return state, jax.tree.map(lambda all_K, x: all_K.at[i].set(x), metrics_K, metrics)

        example = jax.tree.map(lambda array: array[indices_KxB[0]], resident)
        _, shapes = jax.eval_shape(step, state, example, key)
        steps_K = len(indices_KxB)
        empty_K = jax.tree.map(lambda x: jnp.zeros((steps_K, *x.shape), x.dtype), shapes)
        # A traced count: an epoch's last, shorter call needs no program of its own.
        return jax.lax.fori_loop(0, count, do_step, (state, empty_K))

    return jit_train_step(train_steps, mesh, state, replicated(mesh))


def jit_predict_step(step: Callable[..., Any]) -> Callable[..., Any]:
    """Jits step(variables, canvases) -> probabilities, on the devices that hold the arguments."""
    return jax.jit(step)


def jit_eval_step(
    step: Callable[..., Any], mesh: Mesh, variables: Any = None
) -> Callable[..., Any]:
    """Jits step(variables, batch) -> per-image results; the variables live on, none is donated."""
    return jax.jit(
        step,
        in_shardings=(replicated(mesh) if variables is None else variables, batch_sharding(mesh)),
        out_shardings=replicated(mesh),
    )
