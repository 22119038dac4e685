"""The body of a simulated patient: random measures, and thickness of each tissue along the ray.

Coordinates in cm: x to the image's right (the patient's left), z down, rays along the depth.
The origin lies between the hila. Every thickness is an integral along the ray in closed form.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array

_KNOB = (1.9, -6.0)  # x and z of the aortic arch
_TRUNK = (1.9, -2.9, 2.0, 2.9)  # x, z and semi-axes of the pulmonary trunk


class Anatomy(NamedTuple):
    """One patient; scalars, in cm unless said otherwise."""

    chest: Array  # half-width of the rib cage inside, at its widest
    depth: Array  # half-depth of the rib cage inside
    apex: Array  # z of the lungs' tops
    dome: Array  # z of the right dome of the diaphragm
    dome_left: Array  # how much lower the left one is
    recess: Array  # how much deeper the costophrenic angles are than the domes
    fat: Array  # thickness of the chest wall
    medial: Array  # half-width of the upper mediastinum
    heart_x: Array
    heart_z: Array  # of its centre; its lower border lies in the diaphragm
    heart_a: Array  # long and short semi-axes
    heart_b: Array
    heart_tilt: Array  # radians
    knob: Array  # radius of the aortic knob
    turn: Array  # shift of the mediastinum by axial rotation
    breast: Array  # thickness of breast tissue
    arms: Array  # raise of the shoulders
    bone: Array  # density of bone, 1 is average
    scoliosis: Array
    stomach: Array  # radius of the gastric bubble; 0: none


def draws(
    key: Array, count: int
) -> tuple[Callable[[float, float], Array], Callable[[float], Array]]:
    """uniform(low, high) and chance(probability): 1.0 or 0.0; at most `count` draws of both.

    One call of the generator serves them all: it is what takes XLA long to compile.
    """
    unit = iter(jax.random.uniform(key, (count,)))

    def uniform(low: float, high: float) -> Array:
        return low + (high - low) * next(unit)

    def chance(probability: float) -> Array:
        return (next(unit) < probability).astype(jnp.float32)

    return uniform, chance


def random_anatomy(key: Array) -> Anatomy:
    """Draws a patient. Ranges are rounded from adult radiographic anatomy."""
    uniform, chance = draws(key, 24)
    build = uniform(0.0, 1.0)  # slim to stout
    tall = uniform(-1.0, 1.0)
    breath = uniform(-1.0, 1.0)
    dome = 7.3 + 1.3 * tall + 1.8 * breath - 0.8 * build
    dome_left = uniform(0.2, 1.8)
    heart_a = 6.4 + 1.0 * build + uniform(-0.7, 1.2)
    heart_b = 4.6 + 0.6 * build + uniform(-0.4, 0.7)
    heart_tilt = uniform(0.45, 0.85) - 0.15 * build
    heart_below = jnp.hypot(heart_a * jnp.sin(heart_tilt), heart_b * jnp.cos(heart_tilt))
    return Anatomy(
        chest=13.0 + 1.2 * build + 0.4 * tall + uniform(-0.6, 0.6),
        depth=8.0 + 2.5 * build,
        apex=-13.0 - 1.0 * tall + uniform(-0.6, 0.6),
        dome=dome,
        dome_left=dome_left,
        recess=uniform(2.8, 5.2),
        fat=1.5 + 3.5 * build**2 + uniform(0.0, 0.8),
        medial=uniform(2.1, 3.1),
        heart_x=uniform(1.7, 2.9),
        heart_z=dome + dome_left + uniform(1.7, 2.6) - heart_below,
        heart_a=heart_a,
        heart_b=heart_b,
        heart_tilt=heart_tilt,
        knob=uniform(1.5, 2.2),
        turn=uniform(-0.7, 0.7),
        breast=chance(0.5) * uniform(1.0, 4.0),
        arms=uniform(-1.0, 1.5),
        bone=uniform(0.75, 1.2),
        scoliosis=uniform(-0.8, 0.8),
        stomach=chance(0.6) * uniform(1.5, 3.2),
    )


def ellipsoid_chord(u: Array, v: Array, half_depth: Array | float) -> Array:
    """Ray length through an ellipsoid at (u, v), in units of its semi-axes across the ray.

    2 c sqrt(1 - u^2 - v^2) inside, else 0, with c = half_depth.
    """
    return 2 * half_depth * jnp.sqrt(jnp.maximum(1 - u**2 - v**2, 0.0))


def _rotate(x: Array, z: Array, angle: Array | float) -> tuple[Array, Array]:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return x * cos + z * sin, z * cos - x * sin


def chest_half_width(a: Anatomy, z: Array) -> Array:
    """Half-width of the rib cage inside, at height z; 0 above the apex of the lungs."""
    length = a.dome + a.recess - a.apex
    v = jnp.clip((z - a.apex) / (0.78 * length), 0.0, 1.0)
    dome = jnp.sqrt(jnp.maximum(1 - (1 - v) ** 2.3, 0.0))
    return jnp.where(z > a.apex, 5.2 + (a.chest - 5.2) * dome, 0.0)


def medial_border(a: Anatomy, x: Array, z: Array) -> Array:
    """|x| of the lungs' inner border: the mediastinum, rounded into the apex."""
    v = jnp.clip((z - a.apex) / 3.0, 0.0, 1.0)
    inwards = jnp.sqrt(jnp.maximum(1 - (1 - v) ** 2, 0.0))
    border = a.medial + 0.5 * jnp.sin(0.35 * z) + jnp.where(x > 0, 0.2, 0.0)
    return 5.2 - (5.2 - border) * inwards


def dome_height(a: Anatomy, x: Array) -> Array:
    """z of the diaphragm's silhouette above x."""
    top = a.dome + jnp.where(x > 0, a.dome_left, 0.0)
    centre = 0.45 * a.chest
    outwards = jnp.maximum(jnp.abs(x) - centre, 0.0) / (a.chest - centre)
    inwards = jnp.maximum(centre - jnp.abs(x), 0.0) / centre
    return top + a.recess * outwards**2.0 + 1.6 * inwards**1.7


def heart_chord(a: Anatomy, x: Array, z: Array) -> Array:
    """Ray length through the heart: a tilted ellipsoid and the right atrium."""
    u, v = _rotate(x - a.heart_x, z - a.heart_z, a.heart_tilt)
    main = ellipsoid_chord(u / a.heart_a, v / a.heart_b, 4.5)
    atrium = ellipsoid_chord((x + 1.6) / 2.9, (z - a.heart_z + 0.3) / 4.2, 3.5)
    return jnp.maximum(main, atrium)


def vessel_chord(a: Anatomy, x: Array, z: Array) -> Array:
    """Ray length through the aortic knob, the pulmonary trunk and the upper mediastinum."""
    knob = ellipsoid_chord((x - _KNOB[0]) / a.knob, (z - _KNOB[1]) / (1.15 * a.knob), 2.2)
    trunk = ellipsoid_chord((x - _TRUNK[0]) / _TRUNK[2], (z - _TRUNK[1]) / _TRUNK[3], 2.0)
    return jnp.maximum(knob, trunk)


def _row_edge(
    z: Array, x0: Array | float, z0: Array | float, rx: Array | float, rz: Array | float
) -> Array:
    """x of an ellipse's outer edge at height z; far inside where the row misses it."""
    squared = 1 - ((z - z0) / rz) ** 2
    return jnp.where(squared >= 0, x0 + rx * jnp.sqrt(jnp.maximum(squared, 0.0)), -99.0)


def heart_edges(a: Anatomy, z: Array) -> tuple[Array, Array]:
    """How far the heart reaches at height z to the right (-x) and left (x), from the tilted
    ellipse's quadratic in x; far inside where the row misses it."""
    cos, sin = jnp.cos(a.heart_tilt), jnp.sin(a.heart_tilt)
    long2, short2 = 1 / a.heart_a**2, 1 / a.heart_b**2
    dz = z - a.heart_z
    p = cos**2 * long2 + sin**2 * short2
    q = dz * cos * sin * (long2 - short2)
    r = dz**2 * (sin**2 * long2 + cos**2 * short2) - 1
    discriminant = q**2 - p * r
    middle, half = a.heart_x - q / p, jnp.sqrt(jnp.maximum(discriminant, 0.0)) / p
    hit = discriminant >= 0
    return jnp.where(hit, half - middle, -99.0), jnp.where(hit, half + middle, -99.0)


def cardiac_border(a: Anatomy, x: Array, z: Array) -> Array:
    """|x| that a reader's outline keeps outside of, on each side: heart and great vessels."""
    heart_right, heart_left = heart_edges(a, z)
    knob = _row_edge(z, _KNOB[0], _KNOB[1], a.knob, 1.15 * a.knob)
    left = jnp.maximum(heart_left, jnp.maximum(knob, _row_edge(z, *_TRUNK)))
    # From the right atrium the inferior vena cava goes straight down to the diaphragm.
    atrium = _row_edge(jnp.minimum(z, a.heart_z + 2.2), 1.6, a.heart_z - 0.3, 2.9, 4.2)
    return jnp.where(x > 0, left, jnp.maximum(heart_right, atrium))


class Lungs(NamedTuple):
    """Maps over the image."""

    air_HxW: Array  # cm of lung along the ray
    labels_HxW: Array  # int32: 1 right, 2 left lung, as a reader would outline them; else 0


def lungs(a: Anatomy, x: Array, z: Array) -> Lungs:
    """Lung thickness, and the silhouette that the heart, mediastinum and diaphragm leave free."""
    centred = x - a.turn
    side = jnp.abs(x)
    outer = chest_half_width(a, z)
    inner = medial_border(a, centred, z)
    dome = dome_height(a, x)
    heart = heart_chord(a, centred, z)
    vessels = vessel_chord(a, centred, z)
    aside = (side < outer) & (jnp.abs(centred) > inner)
    border = cardiac_border(a, centred, z)
    outside = jnp.abs(centred) > border
    silhouette = aside & outside & (z < dome)

    # Depth of the cavity: a superellipse across, shallower towards the apex.
    s = jnp.clip(side / jnp.maximum(outer, 1e-3), 0.0, 1.0)
    height = jnp.clip((z - a.apex) / 9.0, 0.0, 1.0)
    half_depth = a.depth * (0.35 + 0.65 * jnp.sqrt(height))
    cavity = 2 * half_depth * (1 - s**2.6) ** (1 / 2.6)
    # Between the lungs the mediastinum fills most of the depth; its wall is steep at the border.
    m = jnp.clip(jnp.abs(centred) / jnp.maximum(inner, 1e-3), 0.0, 1.0)
    mediastinum = jnp.where(m < 1, cavity * (0.45 + 0.5 * jnp.sqrt(1 - m**2)), 0.0)
    # The diaphragm falls off to the back and, less, to the front of its dome:
    # z = dome + k t^2, so below the dome's top lung is left where |t| > sqrt((z - dome) / k).
    k = (a.recess + 1.5) / a.depth**2
    hidden = jnp.sqrt(jnp.maximum(z - dome, 0.0) / k)
    behind = jnp.maximum(cavity / 2 - hidden, 0.0) + jnp.maximum(cavity / 2 - 1.8 * hidden, 0.0)
    above = jnp.where(z < dome, cavity, behind)
    air = jnp.maximum(above - mediastinum - heart - vessels, 0.0)
    air = jnp.where(z > a.apex, air, 0.0)
    air *= jnp.where(outside | (heart + vessels > 0), 1.0, 0.4)  # fat between heart and vessels
    side_label = jnp.where(centred < 0, 1, 2)
    return Lungs(air, jnp.where(silhouette, side_label, 0).astype(jnp.int32))


def body_chord(a: Anatomy, x: Array, z: Array) -> Array:
    """Ray length through the whole body: torso, shoulders and neck."""
    shoulder = a.apex - 3.6 - 0.5 * a.arms  # where the neck begins to widen
    torso = a.chest + a.fat + 0.6
    low = jnp.clip((z - shoulder) / 7.0, 0.0, 1.0)
    shoulders = torso + 6.5 * jnp.exp(-(((z - shoulder - 8.0) / 5.5) ** 2))
    half_width = 5.6 + (shoulders - 5.6) * low**1.5
    half_depth = (a.depth + 0.6 + 0.7 * a.fat) * (0.62 + 0.38 * low)
    s = jnp.clip(jnp.abs(x) / half_width, 0.0, 1.0)
    torso_chord = 2 * half_depth * (1 - s**2.2) ** (1 / 2.2)
    breasts = sum(
        ellipsoid_chord((x - sign * 7.8) / 5.6, (z - a.dome + 2.0) / 5.6, 0.5 * a.breast)
        for sign in (-1, 1)
    )
    return torso_chord + jnp.where(torso_chord > 0, breasts, 0.0)


def airway_chord(a: Anatomy, x: Array, z: Array) -> Array:
    """Ray length through trachea, main bronchi and the gastric bubble."""
    x = x - a.turn
    trachea = 1.7 * jnp.sqrt(jnp.maximum(1 - ((x + 0.2) / 0.9) ** 2, 0.0))
    trachea = trachea * jax.nn.sigmoid((-3.2 - z) / 0.3)
    bronchi = jnp.zeros_like(x)
    for sign, slope in ((-1.0, 1.1), (1.0, 0.75)):
        along = sign * x
        distance = (z + 3.2 - slope * along) / jnp.sqrt(1 + slope**2)
        chord = 1.2 * jnp.sqrt(jnp.maximum(1 - (distance / 0.6) ** 2, 0.0))
        bronchi += chord * jax.nn.sigmoid((along - 0.2) / 0.2) * jax.nn.sigmoid((3.2 - along) / 0.3)
    radius = jnp.maximum(a.stomach, 1e-3)
    bubble = ellipsoid_chord(
        (x - 6.2) / (1.5 * radius), (z - a.dome - a.dome_left - 1.2 - radius) / radius, 2.0
    )
    return trachea + bronchi + jnp.where(a.stomach > 0, bubble, 0.0)
