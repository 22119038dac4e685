"""Devices: the mesh, where arrays live on it, and the jit of each step. Same code for 1 or N."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxlung.errors import InputError


def make_mesh(batch_size: int, devices: list[jax.Device] | None = None) -> Mesh:
    """A one-axis mesh over all devices: each holds the state and its share of the batch.

    Raises:
        InputError: the global batch does not divide over the devices.
    """
    devices = jax.devices() if devices is None else devices
    if batch_size % len(devices):
        raise InputError(
            f"train.batch_size={batch_size} does not divide over {len(devices)} devices; "
            f"use a multiple of {len(devices)}"
        )
    # Auto axes: linen's layers do not name output shardings, so the partitioner infers them.
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis split over the devices."""
    return NamedSharding(mesh, P("data"))


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Splits a host batch's first axis over the mesh."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def jit_init(init: Callable[[jax.Array], Any], mesh: Mesh) -> Callable[[jax.Array], Any]:
    """Parameters are born where they live."""
    # Run once: on a CPU, half the time that full optimisation of its many random draws takes.
    options: Any = {"xla_backend_optimization_level": 1} if _on_cpu(mesh) else None
    return jax.jit(init, out_shardings=replicated(mesh), compiler_options=options)


def _on_cpu(mesh: Mesh) -> bool:
    return bool(mesh.devices.flat[0].platform == "cpu")


def jit_train_step(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """step(state, batch) -> (state, metrics); the state's buffers are donated."""
    return jax.jit(
        step,
        in_shardings=(replicated(mesh), batch_sharding(mesh)),
        out_shardings=(replicated(mesh), replicated(mesh)),
        donate_argnums=(0,),
    )


def jit_train_steps(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """steps(state, resident, indices_KxB, count) -> (state, metrics [K]); the state is donated.

    Does the first `count` of K steps in one dispatch. `resident` holds arrays [N, ...], whole on
    each device; a step's batch is gathered from them, and split over the mesh.
    """

    def steps(state: Any, resident: Any, indices_KxB: jax.Array, count: jax.Array) -> Any:
        def one(i: jax.Array, carry: Any) -> Any:
            state, metrics_K = carry
            batch = jax.tree.map(lambda array: array[indices_KxB[i]], resident)
            batch = jax.lax.with_sharding_constraint(batch, batch_sharding(mesh))
            state, metrics = step(state, batch)
            return state, jax.tree.map(lambda all_K, x: all_K.at[i].set(x), metrics_K, metrics)

        example = jax.tree.map(lambda array: array[indices_KxB[0]], resident)
        _, shapes = jax.eval_shape(step, state, example)
        steps_K = len(indices_KxB)
        empty_K = jax.tree.map(lambda x: jnp.zeros((steps_K, *x.shape), x.dtype), shapes)
        # A traced count: an epoch's last, shorter call needs no program of its own.
        return jax.lax.fori_loop(0, count, one, (state, empty_K))

    return jax.jit(
        steps,
        in_shardings=replicated(mesh),
        out_shardings=replicated(mesh),
        donate_argnums=(0,),
    )


def jit_predict_step(step: Callable[..., Any]) -> Callable[..., Any]:
    """step(variables, canvases) -> probabilities, on the devices that hold the arguments."""
    return jax.jit(step)


def jit_eval_step(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """step(variables, batch) -> per-image results; nothing is donated: the variables live on."""
    return jax.jit(
        step,
        in_shardings=(replicated(mesh), batch_sharding(mesh)),
        out_shardings=replicated(mesh),
    )


def make_ensemble_mesh(
    members: int, batch_size: int, devices: list[jax.Device] | None = None
) -> Mesh:
    """A mesh of "data" and "model": the members are split over "model", their batches over "data".

    Of the devices as many as divide the members hold some each; these have nothing to tell one
    another.

    Raises:
        InputError: the batch does not divide over the devices that are left.
    """
    devices = jax.devices() if devices is None else devices
    model = math.gcd(members, len(devices))
    data = len(devices) // model
    if batch_size % data:
        raise InputError(
            f"{members} members divide over {model} of {len(devices)} devices, and "
            f"train.batch_size={batch_size} not over the {data} that each has then; use a multiple"
        )
    return jax.make_mesh(
        (data, model), ("data", "model"), axis_types=(AxisType.Auto,) * 2, devices=devices
    )


def member_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis, of members, split over "model"."""
    return NamedSharding(mesh, P("model"))


def member_batch_sharding(mesh: Mesh, *, shared: bool) -> NamedSharding:
    """Of a batch [B, ...] that the members share, or of one for each, [M, B, ...]."""
    return batch_sharding(mesh) if shared else NamedSharding(mesh, P("model", "data"))


def jit_train_members(step: Callable[..., Any], mesh: Mesh, *, shared: bool) -> Callable[..., Any]:
    """`members.train_members`, bound: the states' buffers are donated."""
    member = member_sharding(mesh)
    return jax.jit(
        step,
        in_shardings=(member, member_batch_sharding(mesh, shared=shared), member, member, member),
        out_shardings=(member, replicated(mesh)),
        donate_argnums=(0,),
    )


def jit_evaluate_members(
    step: Callable[..., Any], mesh: Mesh, *, shared: bool
) -> Callable[..., Any]:
    """`members.evaluate_members`, bound."""
    return jax.jit(
        step,
        in_shardings=(member_sharding(mesh), member_batch_sharding(mesh, shared=shared)),
        out_shardings=replicated(mesh),
    )


def jit_of_members(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """A function of trees with leaves [M, ...] alone."""
    member = member_sharding(mesh)
    return jax.jit(function, in_shardings=member, out_shardings=member)
