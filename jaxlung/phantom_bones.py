"""Bones and pulmonary vessels of a simulated patient: thickness along the ray, in cm."""

import jax
import jax.numpy as jnp

from jaxlung.phantom_anatomy import (
    Anatomy,
    Array,
    chest_half_width,
    ellipsoid_chord,
)

_RIBS = 10
_BRANCHES = 7  # of a hilum, each with two children and four grandchildren


def tube_chord(distance: Array, radius: Array | float, core: float = 0.72) -> Array:
    """Ray length through a tube's cortex: a cylinder less a core that holds marrow.

    distance: cm from the axis, in the image plane; the tube lies across the ray.
    """
    outer = jnp.sqrt(jnp.maximum(radius**2 - distance**2, 0.0))
    marrow = jnp.sqrt(jnp.maximum((core * radius) ** 2 - distance**2, 0.0))
    return 2 * (outer - 0.8 * marrow)


def rib_chord(a: Anatomy, x: Array, z: Array) -> Array:
    """Ribs as tubes along tilted ellipses on the rib cage.

    Seen from the front a rib is an ellipse: its upper half the posterior part, which leaves the
    spine and falls sideways, its lower half the anterior part, which comes back to the middle and
    fades into cartilage.
    """
    length = a.dome + a.recess - a.apex

    def one(total: Array, k: Array) -> tuple[Array, None]:
        top = a.apex - 1.8 + k * (0.088 * length)
        drop = 3.4 + 0.75 * k
        middle = top + drop / 2
        width = chest_half_width(a, jnp.maximum(middle, a.apex + 1.2)) + 0.35
        u = x / width
        v = (z - middle) / (drop / 2)
        # Distance to the implicit curve u^2 + v^2 = 1, to first order.
        gradient = 2 * jnp.sqrt((u / width) ** 2 + (v / (drop / 2)) ** 2)
        distance = jnp.abs(u**2 + v**2 - 1) / jnp.maximum(gradient, 1e-3)
        anterior = v > 0
        radius = jnp.where(anterior, 0.72, 0.58)
        # Where the rib turns along the ray, at the flank, the ray sees more of it.
        turning = 1 / jnp.sqrt(jnp.maximum(1 - 0.75 * u**2, 0.25))
        cartilage = jax.nn.sigmoid((jnp.abs(u) - 0.52) / 0.05)
        seen = jnp.where(anterior, 0.6 * cartilage, 1.0) * turning
        seen *= jax.nn.sigmoid((jnp.abs(x) - 1.5) / 0.3)  # the head hides behind the spine
        return total + 0.85 * tube_chord(distance, radius) * seen, None

    total, _ = jax.lax.scan(one, jnp.zeros_like(x), jnp.arange(_RIBS, dtype=jnp.float32))
    return total


def spine_chord(a: Anatomy, x: Array, z: Array) -> Array:
    """Vertebral bodies with disc spaces, pedicles and spinous processes."""
    x = x - a.scoliosis * jnp.sin(0.12 * z) - 0.5 * a.turn
    period = 2.15 + 0.012 * (z + 15)
    phase = z / period
    within = phase - jnp.floor(phase) - 0.5  # -0.5 to 0.5 over a vertebra
    half_width = 1.75 + 0.03 * (z + 10) + 0.25 * (2 * within) ** 2
    across = jnp.sqrt(jnp.maximum(1 - (x / half_width) ** 4, 0.0))
    body = jax.nn.sigmoid((0.40 - jnp.abs(within)) / 0.03)
    bone = 0.8 * across * (0.35 + 0.65 * body)
    pedicles = sum(
        tube_chord(jnp.hypot(x - sign * 1.15, 1.2 * period * within), 0.42, 0.6) for sign in (-1, 1)
    )
    spinous = tube_chord(jnp.hypot(1.3 * x, 0.8 * period * (within - 0.25)), 0.4, 0.5)
    return bone + pedicles + spinous


def shoulder_chord(a: Anatomy, x: Array, z: Array) -> Array:
    """Clavicles, shoulder blades and the heads of the upper arms."""
    side = jnp.abs(x - 0.6 * a.turn)
    rise = 0.10 + 0.07 * a.arms
    axis = a.apex + 2.6 - rise * (side - 1.5) + 0.55 * jnp.sin((side - 1.5) * 0.42)
    slope = -rise + 0.55 * 0.42 * jnp.cos((side - 1.5) * 0.42)
    distance = (z - axis) / jnp.sqrt(1 + slope**2)
    radius = 0.62 + 0.25 * jnp.exp(-(((side - 1.8) / 1.2) ** 2))
    clavicle = tube_chord(distance, radius)
    clavicle *= jax.nn.sigmoid((side - 1.5) / 0.15) * jax.nn.sigmoid((a.chest + 3.5 - side) / 0.4)

    tilt = 0.22
    u = (side - a.chest - 1.2 + 0.4 * a.arms) * jnp.cos(tilt) + (z + 4.8) * jnp.sin(tilt)
    v = (z + 4.8) * jnp.cos(tilt) - (side - a.chest - 1.2 + 0.4 * a.arms) * jnp.sin(tilt)
    shape = jnp.hypot(u / (3.4 - 0.14 * v), v / 7.6)
    blade = 0.28 * jax.nn.sigmoid((1 - shape) / 0.02)
    blade += 0.30 * jnp.exp(-(((shape - 0.97) / 0.04) ** 2))  # its thick border

    head_x, head_z = a.chest + 5.2, a.apex + 4.4 - 0.5 * a.arms
    head = 0.45 * ellipsoid_chord((side - head_x) / 2.5, (z - head_z) / 2.5, 2.5)
    shaft = 0.6 * tube_chord(side - head_x - 0.9 - 0.15 * (z - head_z), 1.35)
    shaft *= jax.nn.sigmoid((z - head_z) / 0.4)
    return 1.7 * clavicle + blade + head + shaft


def random_vessels(key: Array, a: Anatomy) -> Array:
    """Pulmonary vessels as tapered segments [N, 6]: x0, z0, x1, z1, radius at both ends."""
    n = _BRANCHES
    segments = []
    for side, side_key in zip((-1.0, 1.0), jax.random.split(key), strict=True):
        # Uniform in +-1: where the branches start, their heading, and each segment's length.
        draw = jax.random.uniform(side_key, (14 * n,), minval=-1.0, maxval=1.0)
        jitter, heading, bends, lengths = jnp.split(draw, (2 * n, 3 * n, 7 * n))
        hilum = jnp.array([side * (a.medial + 0.9), -0.9])
        start = hilum[None, :] + 0.8 * jitter.reshape(n, 2)
        heading = jnp.linspace(-1.25, 1.25, n) + 0.2 * heading
        radius = jnp.full((n,), 0.42)
        for generation in range(3):
            count = n * 2**generation
            length = 3.2 + 0.95 * lengths[count - n : 2 * count - n]
            unit = jnp.stack([side * jnp.cos(heading), jnp.sin(heading)], axis=1)
            end = start + length[:, None] * unit
            radii = jnp.stack([radius, 0.6 * radius], axis=1)
            segments.append(jnp.concatenate([start, end, radii], axis=1))
            start, radius = jnp.repeat(end, 2, axis=0), jnp.repeat(0.6 * radius, 2)
            fork = jnp.tile(jnp.array([-1.0, 1.0]), count)
            bend = 0.33 + 0.22 * jnp.resize(bends, 2 * count)
            heading = jnp.repeat(heading, 2) + bend * fork
    return jnp.concatenate(segments)


def vessel_tree_chord(segments_Nx6: Array, x: Array, z: Array) -> Array:
    """Ray length through tapered segments, the thickest where they overlap."""

    def one(deepest: Array, segment: Array) -> tuple[Array, None]:
        x0, z0, x1, z1, r0, r1 = segment
        dx, dz = x1 - x0, z1 - z0
        t = jnp.clip(((x - x0) * dx + (z - z0) * dz) / (dx**2 + dz**2), 0.0, 1.0)
        distance2 = (x - x0 - t * dx) ** 2 + (z - z0 - t * dz) ** 2
        radius = r0 + t * (r1 - r0)
        return jnp.maximum(deepest, 2 * jnp.sqrt(jnp.maximum(radius**2 - distance2, 0.0))), None

    deepest, _ = jax.lax.scan(one, jnp.zeros_like(x), segments_Nx6)
    return deepest


def hilum_chord(a: Anatomy, x: Array, z: Array) -> Array:
    """Ray length through the soft tissue of both hila."""
    u = (jnp.abs(x) - a.medial - 0.9) / 1.3
    lower = jnp.where(x < 0, -0.4, -1.2)  # the left hilum stands higher
    return ellipsoid_chord(u, (z - lower) / 2.1, 0.8)
