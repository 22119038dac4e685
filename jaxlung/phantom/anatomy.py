"""The body of a simulated patient: random measures, and thickness of each tissue along the ray.

Coordinates in cm: x to the image's right (the patient's left), z down, rays along the depth.
The origin lies between the hila. Every thickness is an integral along the ray in closed form.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
Pair = tuple[Array | float, Array | float]


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
    atrium: Array  # how far the right atrium bulges
    knob: Array  # radius of the aortic knob
    trunk: Array  # how far the pulmonary trunk bulges
    turn: Array  # shift of the mediastinum by axial rotation
    breast: Array  # thickness of breast tissue
    arms: Array  # raise of the shoulders
    bone: Array  # density of bone, 1 is average
    scoliosis: Array
    stomach: Array  # radius of the gastric bubble; 0: none
    rib_pitch: Array  # distance of the ribs, as a fraction of the lungs' height
    rib_drop: Array  # how far ribs fall on their way round, 1 is average


def draws(unit_N: Array) -> tuple[Callable[[float, float], Array], Callable[[float], Array]]:
    """Makes uniform(low, high) and chance(probability), 1.0 or 0.0, of N numbers in [0, 1).

    Both together draw at most N times. One call of the generator serves many draws, since each
    call takes XLA long to compile.
    """
    unit = iter(unit_N)

    def uniform(low: float, high: float) -> Array:
        return low + (high - low) * next(unit)

    def chance(probability: float) -> Array:
        return (next(unit) < probability).astype(jnp.float32)

    return uniform, chance


def random_anatomy(key: Array) -> Anatomy:
    """Draws a patient. Ranges are rounded from adult radiographic anatomy."""
    uniform, chance = draws(jax.random.uniform(key, (27,)))
    build = uniform(0.0, 1.0)  # slim to stout
    tall = uniform(-1.0, 1.0)
    breath = uniform(-1.0, 1.0)
    dome = 7.3 + 1.3 * tall + 2.1 * breath - 0.8 * build
    dome_left = uniform(0.2, 1.8)
    heart_a = 6.0 + 1.0 * build + uniform(-0.7, 1.2)
    heart_b = 4.3 + 0.6 * build + uniform(-0.4, 0.7)
    heart_tilt = uniform(0.45, 0.85) - 0.15 * build
    heart_below = jnp.hypot(heart_a * jnp.sin(heart_tilt), heart_b * jnp.cos(heart_tilt))
    return Anatomy(
        chest=13.0 + 1.2 * build + 0.4 * tall + uniform(-0.6, 0.6),
        depth=8.0 + 2.5 * build,
        apex=-13.0 - 1.0 * tall + uniform(-0.6, 0.6),
        dome=dome,
        dome_left=dome_left,
        recess=uniform(2.8, 5.2),
        fat=0.8 + 3.2 * build**2 + uniform(0.0, 0.8),
        medial=uniform(1.2, 2.0),
        heart_x=uniform(1.7, 2.9),
        heart_z=dome + dome_left + uniform(1.7, 2.6) - heart_below,
        heart_a=heart_a,
        heart_b=heart_b,
        heart_tilt=heart_tilt,
        atrium=uniform(2.2, 3.4),
        knob=uniform(1.6, 2.5),
        trunk=uniform(2.2, 3.4),
        turn=uniform(-0.7, 0.7),
        breast=chance(0.5) * uniform(1.0, 3.5),
        arms=uniform(-1.0, 1.5),
        bone=uniform(0.75, 1.2),
        scoliosis=uniform(-0.8, 0.8),
        stomach=chance(0.6) * uniform(1.3, 2.8),
        rib_pitch=uniform(0.082, 0.094),
        rib_drop=uniform(0.85, 1.3),
    )


def ellipsoid_chord(u: Array, v: Array, half_depth: Array | float) -> Array:
    """Returns the ray's length in an ellipsoid at (u, v), in units of its semi-axes across the ray.

    It is 2 c sqrt(1 - u^2 - v^2) inside, else 0, with c = half_depth.

    Example:
        >>> float(ellipsoid_chord(jnp.float32(0), jnp.float32(0), 4.5))
        9.0
    """
    return 2 * half_depth * jnp.sqrt(jnp.maximum(1 - u**2 - v**2, 0.0))


def capsule_chord(x: Array, z: Array, start: Pair, end: Pair, taper: Pair) -> Array:
    """Returns the ray's length in a tapered capsule across the ray: 2 sqrt(r^2 - distance^2).

    start, end: (x, z) of the axis; taper: the radius at both ends. All in cm.
    """
    dx, dz = end[0] - start[0], end[1] - start[1]
    t = jnp.clip(((x - start[0]) * dx + (z - start[1]) * dz) / (dx**2 + dz**2), 0.0, 1.0)
    distance2 = (x - start[0] - t * dx) ** 2 + (z - start[1] - t * dz) ** 2
    radius = taper[0] + t * (taper[1] - taper[0])
    return 2 * jnp.sqrt(jnp.maximum(radius**2 - distance2, 0.0))


def chest_half_width(a: Anatomy, z: Array) -> Array:
    """Returns the half-width of the rib cage inside, at height z; 0 above the lungs' apex."""
    length = a.dome + a.recess - a.apex
    v = jnp.clip((z - a.apex) / (0.78 * length), 0.0, 1.0)
    dome = jnp.maximum(1 - (1 - v) ** 2.3, 0.0) ** 0.57
    return jnp.where(z > a.apex, 4.2 + (a.chest - 4.2) * dome, 0.0)


def dome_height(a: Anatomy, x: Array) -> Array:
    """Returns z of the diaphragm's silhouette at x."""
    top = a.dome + jnp.where(x > 0, a.dome_left, 0.0)
    centre = 0.45 * a.chest
    # The last 4 mm are flat: a sharper angle would fall apart into pixels.
    outwards = jnp.clip(jnp.abs(x) - centre, 0.0, a.chest - 0.4 - centre) / (a.chest - centre)
    inwards = jnp.maximum(centre - jnp.abs(x), 0.0) / centre
    return top + a.recess * outwards**2.0 + 1.6 * inwards**1.7


def _row_edge(
    z: Array, x0: Array | float, z0: Array | float, rx: Array | float, rz: Array | float
) -> Array:
    """Returns x of an ellipse's outer edge at height z; far inside where the row misses it."""
    squared = 1 - ((z - z0) / rz) ** 2
    return jnp.where(squared >= 0, x0 + rx * jnp.sqrt(jnp.maximum(squared, 0.0)), -99.0)


def left_ventricle_edge(a: Anatomy, z: Array) -> Array:
    """Returns x of the left ventricle's outer edge at height z.

    It is the larger root of the tilted ellipse's quadratic in x; far inside where the row misses
    the ellipse.
    """
    cos, sin = jnp.cos(a.heart_tilt), jnp.sin(a.heart_tilt)
    long2, short2 = 1 / a.heart_a**2, 1 / a.heart_b**2
    dz = z - a.heart_z
    p = cos**2 * long2 + sin**2 * short2
    q = dz * cos * sin * (long2 - short2)
    r = dz**2 * (sin**2 * long2 + cos**2 * short2) - 1
    discriminant = q**2 - p * r
    edge = a.heart_x + (jnp.sqrt(jnp.maximum(discriminant, 0.0)) - q) / p
    return jnp.where(discriminant >= 0, edge, -99.0)


def mediastinal_border(a: Anatomy, x: Array, z: Array) -> Array:
    """Returns `|x|` of the lungs' inner border on the side of x: heart, vessels and mediastinum."""
    # At the apex the border leaves the mediastinum in an arc.
    v = jnp.clip((z - a.apex) / 4.0, 0.0, 1.0)
    narrow = a.medial + 0.3 * jnp.sin(0.35 * z)
    strip = 4.2 - (4.2 - narrow) * jnp.sqrt(jnp.maximum(1 - (1 - v) ** 2, 0.0))
    atrium = _row_edge(z, 0.7, a.heart_z + 0.4, a.atrium, 5.2)
    knob = _row_edge(z, 0.9, -6.3, a.knob, 1.3 * a.knob)
    trunk = _row_edge(z, 0.6, -0.6, a.trunk, 5.2)
    left = jnp.maximum(left_ventricle_edge(a, z), jnp.maximum(knob, trunk))
    organ = jnp.where(x > 0, left, atrium)
    # A maximum with its notches rounded, as fat and pleura round them.
    return strip + jax.nn.softplus(4 * (organ - strip)) / 4


class Lungs(NamedTuple):
    """Maps over the image."""

    air_HxW: Array  # cm of lung along the ray
    labels_HxW: Array  # int32: 1 right, 2 left lung, as a reader would outline them; else 0


def lungs(a: Anatomy, x: Array, z: Array) -> Lungs:
    """Maps lung thickness, and the silhouette that heart, mediastinum and diaphragm leave free."""
    centred = x - a.turn
    side = jnp.abs(x)
    outer = chest_half_width(a, z)
    # The heart rests in fat on the diaphragm: a reader draws no lung below its overhang.
    top = a.dome + jnp.where(x > 0, a.dome_left, 0.0)
    border = mediastinal_border(a, centred, jnp.minimum(z, top))
    dome = dome_height(a, x)
    silhouette = (side < outer) & (jnp.abs(centred) > border) & (z < dome)

    # Depth of the cavity: a superellipse across, shallower towards the apex.
    s = jnp.clip(side / jnp.maximum(outer, 1e-3), 0.0, 1.0)
    height = jnp.clip((z - a.apex) / 9.0, 0.0, 1.0)
    half_depth = a.depth * (0.22 + 0.78 * jnp.sqrt(height))
    cavity = 2 * half_depth * (1 - s**2.6) ** (1 / 2.6)
    # The diaphragm falls off to the back and, less, to the front of its dome:
    # z = dome + k t^2, so below the dome's top lung is left where |t| > sqrt((z - dome) / k).
    k = (a.recess + 1.5) / a.depth**2
    hidden = jnp.sqrt(jnp.maximum(z - dome, 0.0) / k)
    behind = jnp.maximum(cavity / 2 - hidden, 0.0) + jnp.maximum(cavity / 2 - 1.8 * hidden, 0.0)
    air = jnp.where(z < dome, cavity, behind) - mediastinum_chord(a, centred, z, half_depth)
    air = jnp.where(z > a.apex, jnp.maximum(air, 0.0), 0.0)
    side_label = jnp.where(centred < 0, 1, 2)
    return Lungs(air, jnp.where(silhouette, side_label, 0).astype(jnp.int32))


def mediastinum_chord(a: Anatomy, x: Array, z: Array, half_depth: Array) -> Array:
    """Returns the ray's length in what takes lung away.

    That is a stack of half ellipses that reach the border, the tissue before the spine, and the
    descending aorta.
    """
    m = jnp.abs(x) / mediastinal_border(a, x, z)
    # It fills the depth above the heart; behind the heart lies lung.
    fill = 0.55 + 0.4 * jax.nn.sigmoid((-4.0 - z) / 1.5)
    silhouette = 2 * fill * half_depth * jnp.sqrt(jnp.maximum(1 - m**2, 0.0))
    spine = 0.6 * half_depth * jnp.sqrt(jnp.maximum(1 - (x / 2.2) ** 2, 0.0))
    aorta = 2.4 * jnp.sqrt(jnp.maximum(1 - ((x - 1.3) / 1.4) ** 2, 0.0))
    return silhouette + spine + aorta * jax.nn.sigmoid((z + 6.0) / 0.4)


def arm_axis(a: Anatomy) -> tuple[Pair, Pair]:
    """Returns `(|x|, z)` of the upper arm's axis, at the shoulder joint and below."""
    joint = a.chest + 4.2 + 0.3 * a.fat, a.apex + 4.2 - 0.8 * a.arms
    return joint, (joint[0] + 4.5 + 4.0 * a.arms, joint[1] + 18.0)


def body_chord(a: Anatomy, x: Array, z: Array) -> Array:
    """Returns the ray's length in the whole body: neck, shoulders, arms, torso and breasts."""
    side = jnp.abs(x)
    neck, arm = 5.0 + 0.35 * a.fat, 4.3 + 0.35 * a.fat
    joint, elbow = arm_axis(a)
    parts = [
        capsule_chord(side, z, (0.0, a.apex - 30.0), (0.0, a.apex + 3.0), (neck, neck)),
        capsule_chord(side, z, (3.0, a.apex - 1.2 - 0.25 * a.fat), joint, (4.6, arm + 0.3)),
        capsule_chord(side, z, joint, elbow, (arm + 0.5, arm)),
    ]
    # The torso: the rib cage with its wall, below the shoulders.
    down = jnp.clip((z - a.apex + 4.0) / 10.0, 0.0, 1.0)
    half_width = chest_half_width(a, jnp.maximum(z, a.apex + 1.0)) + 0.8 + a.fat
    # Muscle fills the armpit.
    half_width += 2.2 * jnp.exp(-(((z - a.apex - 8.0) / 5.0) ** 2))
    half_depth = (a.depth + 1.0 + 0.7 * a.fat) * jnp.sqrt(down)
    s = jnp.clip(side / half_width, 0.0, 1.0)
    parts.append(2 * half_depth * (1 - s**2.3) ** (1 / 2.3))
    # The fourth-power mean joins them without creases.
    whole = jnp.sqrt(jnp.sqrt(sum((part / 10.0) ** 4 for part in parts))) * 10.0
    v = (z - a.dome + 3.0) / 5.2
    v = jnp.where(v < 0, 0.5 * v, v)  # the lower edge is crisp, the upper one long
    breasts = ellipsoid_chord((side - 8.6) / 5.8, v, 0.5 * a.breast)
    return whole + jnp.where(whole > 0, breasts, 0.0)


def airway_chord(a: Anatomy, x: Array, z: Array) -> Array:
    """Returns the ray's length in trachea, main bronchi and the gastric bubble."""
    bubble_x, x = x, x - a.turn
    trachea = 1.8 * jnp.sqrt(jnp.maximum(1 - ((x + 0.2) / 0.9) ** 2, 0.0))
    air = trachea * jax.nn.sigmoid((-3.2 - z) / 0.3)
    side = jnp.abs(x)
    slope = jnp.where(x < 0, 1.1, 0.75)
    distance = (z + 3.2 - slope * side) / jnp.sqrt(1 + slope**2)
    bronchi = 1.3 * jnp.sqrt(jnp.maximum(1 - (distance / 0.6) ** 2, 0.0))
    air += bronchi * jax.nn.sigmoid((side - 0.2) / 0.2) * jax.nn.sigmoid((3.2 - side) / 0.3)
    # Upright, the stomach's gas lies over a level of fluid.
    radius = jnp.maximum(a.stomach, 1e-3)
    v = (z - a.dome - a.dome_left - 0.9 - radius) / radius
    bubble = ellipsoid_chord((bubble_x - 6.2) / (1.7 * radius), v, 1.6 * radius)
    return air + jnp.where(a.stomach > 0, bubble * jax.nn.sigmoid((0.25 - v) / 0.04), 0.0)
