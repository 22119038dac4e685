"""Bones and pulmonary vessels of a simulated patient: thickness along the ray, in cm."""

import functools

import jax
import jax.numpy as jnp

from jaxlung.phantom import anatomy
from jaxlung.phantom.anatomy import Anatomy, Array, Pair

_RIBS = 10
_BRANCHES = 7  # of a hilum, each with two children and four grandchildren


def tube_chord(distance: Array, radius: Array | float, core: float = 0.72) -> Array:
    """Returns the ray's length in a tube's cortex: a cylinder less a core that holds marrow.

    distance: cm from the axis, in the image plane; the tube lies across the ray.

    Example:
        >>> float(tube_chord(jnp.float32(1.1), 1.0))
        0.0
    """
    outer = jnp.sqrt(jnp.maximum(radius**2 - distance**2, 0.0))
    marrow = jnp.sqrt(jnp.maximum((core * radius) ** 2 - distance**2, 0.0))
    return 2 * (outer - 0.6 * marrow)


def rib_chord(a: Anatomy, x: Array, z: Array) -> Array:
    """Returns the ray's length in the ribs, tubes along tilted ellipses on the rib cage.

    Seen from the front a rib is an oval. Its upper half is the posterior part, which leaves the
    spine and falls sideways. Its lower half is the anterior part, which comes back to the middle
    and fades into cartilage.
    """
    length = a.dome + a.recess - a.apex
    side = jnp.abs(x)
    side_power = jnp.maximum(side, 1e-3) ** 0.7  # once, since powers are slow

    def one(total: Array, k: Array) -> tuple[Array, None]:
        top = a.apex - 0.6 + k * a.rib_pitch * length
        half_drop = 0.5 * a.rib_drop * (3.6 + 0.75 * k)
        width = anatomy.chest_half_width(a, jnp.maximum(top + half_drop, a.apex + 0.6)) + 0.15
        width *= 1 - 0.22 * jnp.exp(-k)  # the first rib closes the apex
        u, v = side / width, (z - top - half_drop) / half_drop
        # Distance to the curve u^1.7 + v^2 = 1, to first order.
        power = side_power * width**-0.7
        gradient = jnp.hypot(1.7 * power / width, 2 * v / half_drop)
        distance = jnp.abs(u * power + v**2 - 1) / jnp.maximum(gradient, 1e-3)
        anterior = jax.nn.sigmoid(v / 0.1)
        # Where the rib turns along the ray, at the flank, the ray sees more of it.
        turning = 1 / jnp.sqrt(jnp.maximum(1 - 0.8 * u**2, 0.2))
        cartilage = jax.nn.sigmoid((u - 0.55) / 0.04)
        seen = (1 + anterior * (0.45 * cartilage - 1)) * turning
        seen *= jax.nn.sigmoid((side - 1.5) / 0.3)  # the head hides behind the spine
        return total + 1.05 * tube_chord(distance, 0.5 + 0.12 * anterior, 0.8) * seen, None

    total, _ = jax.lax.scan(one, jnp.zeros_like(x), jnp.arange(_RIBS, dtype=jnp.float32))
    return total


def spine_chord(a: Anatomy, x: Array, z: Array) -> Array:
    """Returns the ray's length in vertebral bodies with disc spaces, pedicles and processes."""
    x = x - a.scoliosis * jnp.sin(0.12 * z) - 0.5 * a.turn
    period = 2.15 + 0.012 * (z + 15)
    phase = z / period
    within = phase - jnp.floor(phase) - 0.5  # -0.5 to 0.5 over a vertebra
    half_width = 1.55 + 0.02 * (z + 10) + 0.2 * (2 * within) ** 2
    across = jnp.sqrt(jnp.maximum(1 - (x / half_width) ** 2, 0.0))
    body = jax.nn.sigmoid((0.40 - jnp.abs(within)) / 0.03)
    bone = 1.0 * across * (0.35 + 0.65 * body)
    pedicles = sum(
        tube_chord(jnp.hypot(x - sign * 1.0, 1.2 * period * within), 0.42, 0.6) for sign in (-1, 1)
    )
    spinous = tube_chord(jnp.hypot(1.3 * x, 0.8 * period * (within - 0.25)), 0.4, 0.5)
    return bone + pedicles + spinous


def shoulder_chord(a: Anatomy, x: Array, z: Array) -> Array:
    """Returns the ray's length in clavicles, shoulder blades and the upper arms' bones."""
    joint, elbow = anatomy.arm_axis(a)
    side = jnp.abs(x - 0.6 * a.turn)
    # The clavicle: an S from the breastbone, rising to just above the joint.
    inner_z, outer_z, reach = a.apex + 4.6, joint[1] - 3.4, joint[0] - 0.6
    t = jnp.clip((side - 1.3) / (reach - 1.3), 0.0, 1.0)
    axis = inner_z + (outer_z - inner_z) * t + 0.45 * jnp.sin(2 * jnp.pi * t)
    slope = (outer_z - inner_z + 0.9 * jnp.pi * jnp.cos(2 * jnp.pi * t)) / (reach - 1.3)
    radius = 0.55 + 0.35 * jnp.exp(-((t / 0.12) ** 2)) + 0.15 * t
    clavicle = tube_chord((z - axis) / jnp.sqrt(1 + slope**2), radius, 0.78)
    clavicle *= jax.nn.sigmoid((side - 1.4) / 0.1) * jax.nn.sigmoid((reach + 0.8 - side) / 0.15)

    # The shoulder blade: a triangle between its upper angle, its tip and the joint.
    upper, tip = (joint[0] - 7.2, joint[1] - 0.8), (joint[0] - 4.6, joint[1] + 12.5)
    socket = (joint[0] - 2.3, joint[1] + 0.3)
    side_x = jnp.abs(x)
    outside = functools.reduce(
        jnp.maximum,
        (_beyond(side_x, z, *edge) for edge in ((upper, tip), (tip, socket), (socket, upper))),
    )
    blade = 0.3 * jax.nn.sigmoid(-outside / 0.1)
    blade += 0.7 * jnp.exp(-(((outside + 0.25) / 0.3) ** 2))  # its thick border
    blade += 0.6 * anatomy.capsule_chord(
        side_x, z, socket, (socket[0], socket[1] + 1.4), (0.6, 0.7)
    )

    head = 0.42 * anatomy.ellipsoid_chord((side_x - joint[0]) / 2.4, (z - joint[1]) / 2.4, 2.0)
    dx, dz = elbow[0] - joint[0], elbow[1] - joint[1]
    across = ((side_x - joint[0] - 0.4) * dz - (z - joint[1]) * dx) / jnp.hypot(dx, dz)
    shaft = 0.8 * tube_chord(across, 1.25) * jax.nn.sigmoid((z - joint[1] - 0.5) / 0.4)
    return 1.6 * clavicle + blade + jnp.maximum(head, shaft)


def _beyond(x: Array, z: Array, start: Pair, end: Pair) -> Array:
    """Returns the signed distance to a line; negative on the left of the way from start to end."""
    dx, dz = end[0] - start[0], end[1] - start[1]
    return ((z - start[1]) * dx - (x - start[0]) * dz) / jnp.hypot(dx, dz)


def random_vessels(key: Array, a: Anatomy) -> Array:
    """Draws pulmonary vessels, tapered segments [N, 6]: x0, z0, x1, z1, radius at both ends."""
    n = 2 * _BRANCHES
    # Uniform in +-1: where the branches start, their heading, and each segment's bend and length.
    draw = jax.random.uniform(key, (17 * n,), minval=-1.0, maxval=1.0)
    jitter, heading, bends, lengths = jnp.split(draw, (2 * n, 3 * n, 10 * n))
    side = jnp.repeat(jnp.array([-1.0, 1.0]), _BRANCHES)
    hilum = jnp.stack([side * (a.medial + 1.5), -0.7 - 0.4 * side], axis=1)
    start = hilum + 0.8 * jitter.reshape(n, 2)
    heading = jnp.tile(jnp.linspace(-1.3, 1.3, _BRANCHES), 2) + 0.2 * heading
    radius = jnp.full((n,), 0.42)
    segments = []
    for generation in range(3):
        count = n * 2**generation
        length = 3.2 + 0.95 * lengths[count - n : 2 * count - n]
        unit = jnp.stack([side * jnp.cos(heading), jnp.sin(heading)], axis=1)
        end = start + length[:, None] * unit
        radii = jnp.stack([radius, 0.6 * radius], axis=1)
        segments.append(jnp.concatenate([start, end, radii], axis=1))
        start, radius, side = (
            jnp.repeat(parent, 2, axis=0) for parent in (end, 0.6 * radius, side)
        )
        fork = jnp.tile(jnp.array([-1.0, 1.0]), count)
        bend = 0.33 + 0.22 * jnp.resize(bends, 2 * count)
        heading = jnp.repeat(heading, 2) + bend * fork
    return jnp.concatenate(segments)


def vessel_tree_chord(segments_Nx6: Array, x: Array, z: Array) -> Array:
    """Returns the ray's length in tapered segments, the thickest one where they overlap."""

    def one(deepest: Array, segment: Array) -> tuple[Array, None]:
        x0, z0, x1, z1, r0, r1 = segment
        chord = anatomy.capsule_chord(x, z, (x0, z0), (x1, z1), (r0, r1))
        return jnp.maximum(deepest, chord), None

    deepest, _ = jax.lax.scan(one, jnp.zeros_like(x), segments_Nx6)
    return deepest


def hilum_chord(a: Anatomy, x: Array, z: Array) -> Array:
    """Returns the ray's length in the soft tissue of both hila."""
    u = (jnp.abs(x) - a.medial - 1.5) / 1.3
    lower = jnp.where(x < 0, -0.4, -1.2)  # the left hilum stands higher
    return anatomy.ellipsoid_chord(u, (z - lower) / 2.1, 0.8)
