"""Simulated lateral chest radiographs: the same patients, seen from the side, arms up.

Both lungs lie over one another, with the spine behind, the breastbone in front, the heart low in
front and the two domes of the diaphragm. The rendering is coarser than the frontal one: it is for
telling views apart, and it has no mask.

Coordinates in cm: y forwards (to the image's right, or to its left), z down, rays along the width.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlung.phantom import anatomy, bones, film
from jaxlung.phantom.anatomy import Anatomy, Array, Pair

_RIBS = 10


class Profile(NamedTuple):
    """The chest from the side, as functions of z: maps over the image."""

    middle_HxW: Array  # y of the chest's middle
    half_HxW: Array  # half-depth of the rib cage inside
    spine_HxW: Array  # y of the vertebral bodies' middle


class Pose(NamedTuple):
    """What differs from film to film beside the patient; cm unless said otherwise."""

    lean: Array  # shift of the chest's middle for each cm down
    stoop: Array  # how far the back bends
    arm_y: Array  # of the elbows, before the shoulders
    arm_z: Array  # of the elbows, above the shoulders
    slope: Array  # how far a rib falls on its way to the front
    apart: Array  # by how much the ribs of both sides miss each other
    belly: Array  # thickness of fat before the abdomen
    fill: Array  # of the heart across the chest, 0 to 1
    muscle: Array  # radius of the shoulders


def lateral_radiograph(key: Array, *, size: int = 256) -> Array:
    """Renders one lateral radiograph; a pure function that can be jitted and vmapped.

    Args:
        key: a typed PRNG key. Patient, pose and exposure are functions of it alone.
        size: height and width in pixels, a multiple of 16.

    Returns:
        float32 [size, size] in [0, 1], bright where dense. The patient faces either side.

    Example:
        >>> jax.eval_shape(lambda key: lateral_radiograph(key, size=32), jax.random.key(0)).shape
        (32, 32)
    """
    body_key, tree_key, texture_key, noise_key, key = jax.random.split(key, 5)
    pose_unit, view_unit, overlay_unit, film_unit = jax.random.uniform(key, (4, 12))
    patient = anatomy.random_anatomy(body_key)
    pose = _random_pose(pose_unit, patient)
    uniform, chance = anatomy.draws(view_unit)
    facing = 1 - 2 * chance(0.5)
    low, high = patient.apex, patient.dome + patient.recess
    width = jnp.maximum(2 * patient.depth + 6.0, high - low + 4.0) * uniform(0.8, 1.2)
    angle = uniform(-0.08, 0.08)
    line = ((jnp.arange(size) + 0.5) / size - 0.5) * width
    across, down = jnp.meshgrid(line, line)
    turned = across * jnp.cos(angle) + down * jnp.sin(angle)
    y = facing * turned * uniform(0.85, 1.15) + uniform(-1.5, 1.5)
    z = down * jnp.cos(angle) - across * jnp.sin(angle)
    z = z + (low + high) / 2 + 1.2 + uniform(-1.5, 1.5)
    attenuation, lung = _attenuation(patient, pose, tree_key, texture_key, y, z)
    attenuation *= uniform(0.55, 1.0)  # harder rays than those of a frontal film
    overlay = film.random_overlay(overlay_unit, across / width, down / width)
    return film.expose(film_unit, noise_key, attenuation, lung, overlay, width / size)


def lateral_radiographs(key: Array, n: int, *, size: int = 256, start: int = 0) -> np.ndarray:
    """Renders many lateral radiographs: uint8 [n, size, size]. Arguments as of `radiographs`.

    Example:
        >>> lateral_radiographs(jax.random.key(0), 2, size=32).shape
        (2, 32, 32)
    """
    chunks = [
        np.asarray(_render_chunk(key, first + jnp.arange(film.CHUNK), size))
        for first in range(start, start + n, film.CHUNK)
    ]
    return np.concatenate(chunks)[:n] if chunks else np.empty((0, size, size), np.uint8)


@functools.partial(jax.jit, static_argnums=2)
def _render_chunk(key: Array, indices: Array, size: int) -> Array:
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)
    images = jax.lax.map(lambda k: lateral_radiograph(k, size=size), keys)
    return jnp.round(images * 255).astype(jnp.uint8)


def _random_pose(unit_N: Array, a: Anatomy) -> Pose:
    uniform, _ = anatomy.draws(unit_N)
    return Pose(
        lean=uniform(-0.1, 0.12),
        stoop=uniform(0.5, 3.0),
        arm_y=uniform(1.0, 16.0),
        arm_z=uniform(6.0, 18.0),
        slope=uniform(5.0, 9.5),
        apart=uniform(0.0, 1.2),
        belly=uniform(0.0, 2.0) + 0.6 * a.fat,
        fill=uniform(0.0, 1.0),
        muscle=uniform(5.0, 8.5),
    )


def _profile(a: Anatomy, pose: Pose, z: Array) -> Profile:
    below = jnp.clip((z - a.apex) / 9.0, 0.0, 1.0)
    half = a.depth * (0.22 + 0.78 * jnp.sqrt(below))
    length = a.dome + a.recess - a.apex
    bend = pose.stoop * (2 * (z - a.apex) / length - 1) ** 2  # the back is convex
    middle = pose.lean * z + jnp.minimum(bend, 2 * pose.stoop) - 0.5 * pose.stoop
    neck = 0.2 * jnp.maximum(a.apex - z, 0.0)
    spine = middle + neck - (0.25 + 0.38 * below) * a.depth
    return Profile(middle + neck, half, spine)


def _attenuation(
    a: Anatomy, pose: Pose, tree_key: Array, texture_key: Array, y: Array, z: Array
) -> tuple[Array, Array]:
    """Integrates attenuation along the rays; also returns where lung is seen, bool [H, W]."""
    profile = _profile(a, pose, z)
    body = _body_chord(a, pose, profile, y, z)
    air = jnp.minimum(_lung_chord(a, pose, profile, y, z), 0.92 * body)
    inside = jnp.clip(air / 6.0, 0.0, 1.0)
    across = y - profile.middle_HxW
    bent_y = 1.15 * across + 0.35 * jnp.sin(0.9 * z + 0.5 * y)
    bent_z = z + 0.35 * jnp.sin(0.8 * y - 0.6 * z)
    tree = bones.vessel_tree_chord(bones.random_vessels(tree_key, a), bent_y, bent_z)
    hila = anatomy.ellipsoid_chord(across / 2.2, (z + 0.6) / 2.6, 1.6)
    vessels = inside * (2.2 * tree + hila) + 0.3 * inside * film.texture(texture_key, y, z)
    gas = jnp.minimum(_gas_chord(a, across, z), 0.5 * body)
    bone = _spine_chord(profile, y, z) + _rib_chord(a, pose, profile, y, z)
    bone += _breastbone_chord(a, profile, y, z) + _shoulder_chord(a, pose, y, z)
    bone = bone * jnp.where(body > 0, 1.0, 0.0)
    soft = jnp.maximum(body - air - gas + vessels, 0.0)
    total = film.MU_SOFT * soft + film.MU_LUNG * air + film.MU_BONE * a.bone * bone
    return total, air > 6.0


def _lung_chord(a: Anatomy, pose: Pose, profile: Profile, y: Array, z: Array) -> Array:
    """Returns the ray's length in both lungs, less heart, aorta, mediastinum and spine."""
    across = y - profile.middle_HxW
    t = jnp.clip(jnp.abs(across) / profile.half_HxW, 0.0, 1.0)
    wide = 2 * anatomy.chest_half_width(a, z) * (1 - t**2.6) ** (1 / 2.6)
    wide = jnp.where(z > a.apex, wide, 0.0) - 2 * a.medial - 2.0
    heart = anatomy.ellipsoid_chord(
        (across - 0.38 * a.depth) / (0.95 * a.heart_b),
        (z - a.heart_z) / a.heart_a,
        4.0 + 2.0 * pose.fill,
    )
    aorta = 2.6 * jnp.sqrt(
        jnp.maximum(1 - ((jnp.hypot(across + 0.5, (z + 4.5)) - 3.2) / 1.3) ** 2, 0.0)
    )
    aorta = aorta * jax.nn.sigmoid((-3.0 - z) / 0.6)
    descending = (
        2.6
        * jnp.sqrt(jnp.maximum(1 - ((y - profile.spine_HxW - 2.2) / 1.4) ** 2, 0.0))
        * jax.nn.sigmoid((z + 4.5) / 0.5)
    )
    bodies = 4.6 * jnp.sqrt(jnp.maximum(1 - ((y - profile.spine_HxW) / 2.4) ** 2, 0.0))
    left = jnp.maximum(wide - heart - aorta - descending - bodies, 0.0)
    # Each dome is highest before the middle, and falls far to the back and little to the front.
    off = across - 0.2 * a.depth
    fall = jnp.where(off < 0, a.recess + 2.5, 0.4 * a.recess) * (off / a.depth) ** 2
    shown = sum(jax.nn.sigmoid((top + fall - z) / 0.12) for top in (a.dome, a.dome + a.dome_left))
    return 0.5 * left * shown


def _body_chord(a: Anatomy, pose: Pose, profile: Profile, y: Array, z: Array) -> Array:
    """Returns the ray's length in torso, breasts, shoulders, raised arms, neck and head."""
    across = y - profile.middle_HxW
    wide = anatomy.chest_half_width(a, jnp.maximum(z, a.apex + 1.0)) + 0.8 + a.fat
    deep = profile.half_HxW + 1.2 + 0.7 * a.fat
    belly = pose.belly * jax.nn.sigmoid((z - a.dome - 2.0) / 2.0)
    ahead = jnp.where(across > 0, deep + belly, deep + 0.8)
    t = jnp.clip(jnp.abs(across) / ahead, 0.0, 1.0)
    torso = 2 * wide * (1 - t**2.4) ** (1 / 2.4)
    torso = torso * jax.nn.sigmoid((z - a.apex + 1.5) / 0.8)
    shoulder, elbow = _arm_axis(a, pose)
    thick = 4.2 + 0.35 * a.fat
    arms = 2.0 * anatomy.capsule_chord(y, z, shoulder, elbow, (thick + 2.5, thick))
    # Shoulders, and the muscles of the back, are seen along their length.
    back = shoulder[0] - 3.0, a.apex + 5.0
    radius = pose.muscle + 0.5 * a.fat
    girdle = 2.2 * anatomy.capsule_chord(y, z, shoulder, back, (radius, radius))
    head = shoulder[0] + 4.0, a.apex - 26.0
    neck = anatomy.capsule_chord(y, z, shoulder, head, (6.0 + 0.3 * a.fat, 6.5))
    parts = (torso, arms, girdle, neck)
    whole = jnp.sqrt(jnp.sqrt(sum((part / 10.0) ** 4 for part in parts))) * 10.0
    v = (z - a.dome + 3.0) / 6.0
    v = jnp.where(v < 0, 0.6 * v, v)
    breast = anatomy.ellipsoid_chord((across - deep + 2.0) / (3.0 + a.breast), v, 4.0)
    return whole + jnp.where(a.breast > 0, breast, 0.0)


def _arm_axis(a: Anatomy, pose: Pose) -> tuple[Pair, Pair]:
    """Returns (y, z) of the shoulder joint and of the elbow."""
    shoulder = pose.lean * a.apex + 0.5 * pose.stoop, a.apex + 2.0
    return shoulder, (shoulder[0] + pose.arm_y, shoulder[1] - pose.arm_z)


def _gas_chord(a: Anatomy, across: Array, z: Array) -> Array:
    """Returns the ray's length in the trachea, which runs backwards, and in the stomach's gas."""
    centre = 1.2 - 0.18 * (z - a.apex)
    trachea = 1.8 * jnp.sqrt(jnp.maximum(1 - ((across - centre) / 0.85) ** 2, 0.0))
    gas = trachea * jax.nn.sigmoid((-1.5 - z) / 0.4)
    radius = jnp.maximum(a.stomach, 1e-3)
    v = (z - a.dome - a.dome_left - 0.9 - radius) / radius
    bubble = anatomy.ellipsoid_chord((across - 0.5) / (1.6 * radius), v, 1.6 * radius)
    return gas + jnp.where(a.stomach > 0, bubble * jax.nn.sigmoid((0.25 - v) / 0.04), 0.0)


def _spine_chord(profile: Profile, y: Array, z: Array) -> Array:
    """Returns the ray's length in vertebral bodies with end plates, and in what lies behind."""
    off = y - profile.spine_HxW
    period = 2.15 + 0.012 * (z + 15)
    phase = z / period
    within = jnp.abs(phase - jnp.floor(phase) - 0.5)
    deep = 1.45 + 0.02 * (z + 10)
    across = jnp.sqrt(jnp.maximum(1 - (off / deep) ** 4, 0.0))
    body = jax.nn.sigmoid((0.40 - within) / 0.03)
    plates = jnp.exp(-(((within - 0.39) / 0.04) ** 2))
    behind = jnp.exp(-(((off + deep + 1.8) / 1.2) ** 2)) * (0.5 + 0.5 * body)
    return across * (0.4 + 1.0 * body + 0.9 * plates) + 0.8 * behind


def _rib_chord(a: Anatomy, pose: Pose, profile: Profile, y: Array, z: Array) -> Array:
    """Returns the ray's length in the ribs of both sides, which fall from the back to the front."""
    length = a.dome + a.recess - a.apex
    back = profile.middle_HxW - profile.half_HxW
    s = jnp.clip((y - back) / (2 * profile.half_HxW), 0.0, 1.0)
    inside = jax.nn.sigmoid((y - back) / 0.15) * jax.nn.sigmoid((0.85 - s) / 0.05)

    def one(total: Array, k: Array) -> tuple[Array, None]:
        side = jnp.where(k % 2 > 0, 0.5, -0.5)
        top = a.apex - 1.0 + jnp.floor(k / 2) * a.rib_pitch * length + side * pose.apart
        slope = pose.slope * (0.6 + 0.04 * k)
        distance = (z - top - slope * s**1.2) / jnp.sqrt(
            1 + (1.2 * slope * s**0.2 / (2 * profile.half_HxW)) ** 2
        )
        turning = 1 + 0.8 * jnp.exp(-((s / 0.08) ** 2))
        return total + 0.8 * bones.tube_chord(distance, 0.55, 0.8) * inside * turning, None

    total, _ = jax.lax.scan(one, jnp.zeros_like(y), jnp.arange(2 * _RIBS, dtype=jnp.float32))
    return total


def _breastbone_chord(a: Anatomy, profile: Profile, y: Array, z: Array) -> Array:
    """Returns the ray's length in the breastbone, a plate along the front."""
    front = profile.middle_HxW + profile.half_HxW + 0.5
    plate = 2.0 * jnp.sqrt(jnp.maximum(1 - ((y - front) / 0.6) ** 2, 0.0))
    return plate * jax.nn.sigmoid((z - a.apex - 3.5) / 0.3) * jax.nn.sigmoid((a.dome - z) / 0.5)


def _shoulder_chord(a: Anatomy, pose: Pose, y: Array, z: Array) -> Array:
    """Returns the ray's length in the raised upper arms' bones and the shoulder blades' edges."""
    joint, elbow = _arm_axis(a, pose)
    outer = anatomy.capsule_chord(y, z, joint, elbow, (1.25, 1.2))
    core = anatomy.capsule_chord(y, z, joint, elbow, (0.8, 0.8))
    head = anatomy.ellipsoid_chord((y - joint[0]) / 2.3, (z - joint[1]) / 2.3, 1.0)
    blades = jnp.zeros_like(y)
    for shift in (-0.5, 0.9):
        upper = joint[0] - 1.0 + shift, a.apex + 2.5
        tip = joint[0] - 5.0 + shift, a.apex + 13.0 + shift
        blades += anatomy.capsule_chord(y, z, upper, tip, (0.35, 0.3))
    return 1.4 * (outer - 0.6 * core) + head + 0.9 * blades
