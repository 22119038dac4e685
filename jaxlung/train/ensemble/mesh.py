"""Devices of an ensemble: its members lie over "model", their batches over "data"."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxlung.config import MeshConfig
from jaxlung.devices.mesh import batch_sharding, make_mesh, replicated
from jaxlung.errors import InputError


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
    return make_mesh(batch_size, devices, MeshConfig(data=data, model=model))


def member_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis, of members, split over "model"."""
    return NamedSharding(mesh, P("model"))


def member_batch_sharding(mesh: Mesh, *, shared: bool) -> NamedSharding:
    """Of a batch [B, ...] that the members share, or of one for each, [M, B, ...]."""
    return batch_sharding(mesh) if shared else NamedSharding(mesh, P("model", "data"))


def jit_train_members(step: Callable[..., Any], mesh: Mesh, *, shared: bool) -> Callable[..., Any]:
    """`steps.train_members`, bound: the states' buffers are donated."""
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
    """`steps.evaluate_members`, bound."""
    return jax.jit(
        step,
        in_shardings=(member_sharding(mesh), member_batch_sharding(mesh, shared=shared)),
        out_shardings=replicated(mesh),
    )


def jit_of_members(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """A function of trees with leaves [M, ...] alone."""
    member = member_sharding(mesh)
    return jax.jit(function, in_shardings=member, out_shardings=member)
