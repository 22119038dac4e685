"""Simulated chest radiographs with exact lung masks: pure functions of a key.

Analytic anatomy (`anatomy`, `bones`) is projected along parallel rays. The film then goes through
exposure, scatter, noise and blur, and sometimes collimation, a marker, a tube or an opacity. The
mask is the projected lung that heart, mediastinum and diaphragm leave free, as in the Montgomery
and JSRT masks, computed from the same geometry.

Linear attenuation in 1/cm is approximate: effective values for about 70 keV. Water has the order of
magnitude of the NIST XCOM tables (0.19/cm), lung is water at a density of 0.26, bone is the part
that a mix of cortex and marrow adds to soft tissue, and metal is chosen to be seen, not measured.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlung.phantom import anatomy, bones

Array = jax.Array

MU_SOFT = 0.19
MU_LUNG = 0.05
MU_BONE = 0.30  # in addition to soft tissue
MU_METAL = 1.5
CHUNK = 4  # images rendered at a time: one compile, little memory, few that nobody asked for


class View(NamedTuple):
    """How the patient stands before the detector; lengths in cm, angles in radians."""

    width: Array  # of the field of view
    x: Array  # of the field's centre
    z: Array
    angle: Array


def radiograph(key: Array, *, size: int = 256) -> tuple[Array, Array]:
    """Renders one radiograph with its lungs; a pure function that can be jitted and vmapped.

    Args:
        key: a typed PRNG key. Patient, pose and exposure are functions of it alone, so another
            size shows the same patient.
        size: height and width in pixels, a multiple of 16.

    Returns:
        image float32 [size, size] in [0, 1], bright where dense; labels int32 [size, size]:
        0 background, 1 right lung, 2 left lung (the patient's sides; the right is image left).

    Example:
        >>> image, labels = jax.eval_shape(lambda key: radiograph(key, size=32), jax.random.key(0))
        >>> image.shape, image.dtype, labels.dtype
        ((32, 32), dtype('float32'), dtype('int32'))
    """
    body_key, tree_key, texture_key, noise_key, key = jax.random.split(key, 5)
    view_unit, foreign_unit, overlay_unit, film_unit = jax.random.uniform(key, (4, 12))
    patient = anatomy.random_anatomy(body_key)
    view = _random_view(view_unit, patient)
    line = ((jnp.arange(size) + 0.5) / size - 0.5) * view.width
    across, down = jnp.meshgrid(line, line)  # on the detector, from its centre
    cos, sin = jnp.cos(view.angle), jnp.sin(view.angle)
    x, z = across * cos + down * sin + view.x, down * cos - across * sin + view.z
    lungs = anatomy.lungs(patient, x, z)
    overlay = random_overlay(overlay_unit, across / view.width, down / view.width)
    attenuation = _attenuation(patient, tree_key, texture_key, lungs, x, z)
    attenuation += _foreign_attenuation(foreign_unit, patient, x, z)
    lung = lungs.labels_HxW > 0
    image = expose(film_unit, noise_key, attenuation, lung, overlay, view.width / size)
    return image, lungs.labels_HxW


def radiographs(
    key: Array, n: int, *, size: int = 256, start: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Renders many radiographs as numpy arrays; image i is `radiograph(fold_in(key, start + i))`.

    Args:
        key: a typed PRNG key.
        n: number of radiographs.
        size: height and width in pixels, a multiple of 16.
        start: index of the first one.

    Returns:
        images uint8 [n, size, size]; lung masks uint8 [n, size, size], 0 or 1.

    Example:
        >>> images, masks = radiographs(jax.random.key(0), 2, size=32)
        >>> images.shape, images.dtype, int(masks.max())
        ((2, 32, 32), dtype('uint8'), 1)
    """
    images = np.empty((n, size, size), np.uint8)
    masks = np.empty((n, size, size), np.uint8)
    for first in range(0, n, CHUNK):
        # Always a whole chunk, so that any n compiles once.
        image, labels = _render_chunk(key, start + first + jnp.arange(CHUNK), size)
        stop = min(first + CHUNK, n)
        images[first:stop] = np.asarray(image)[: stop - first]
        masks[first:stop] = np.asarray(labels)[: stop - first]
    return images, masks


@functools.partial(jax.jit, static_argnums=2)
def _render_chunk(key: Array, indices: Array, size: int) -> tuple[Array, Array]:
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)
    images, labels = jax.lax.map(lambda k: radiograph(k, size=size), keys)
    return jnp.round(images * 255).astype(jnp.uint8), (labels > 0).astype(jnp.uint8)


def _random_view(unit_N: Array, patient: anatomy.Anatomy) -> View:
    uniform, _ = anatomy.draws(unit_N)
    low, high = patient.apex, patient.dome + patient.recess
    fit = jnp.maximum(2 * (patient.chest + 2.0), high - low + 4.0)
    return View(
        width=fit * uniform(1.05, 1.38),
        x=uniform(-0.9, 0.9),
        z=(low + high) / 2 + 1.2 + uniform(-1.0, 1.0),
        angle=uniform(-0.06, 0.06) + uniform(-0.06, 0.06),
    )


def _attenuation(
    a: anatomy.Anatomy,
    tree_key: Array,
    texture_key: Array,
    lungs: anatomy.Lungs,
    x: Array,
    z: Array,
) -> Array:
    """Integrates attenuation along the rays; the result has no unit."""
    body = anatomy.body_chord(a, x, z)
    air = jnp.minimum(lungs.air_HxW, 0.92 * body)
    inside = jnp.clip(air / 4.0, 0.0, 1.0)  # vessels lie in lung only
    # Vessels wind a little: their map is bent by smooth waves.
    bent_x = x - a.turn + 0.35 * jnp.sin(0.9 * z + 0.5 * x) + 0.15 * jnp.sin(2.3 * z - 1.1 * x)
    bent_z = z + 0.35 * jnp.sin(0.8 * x - 0.6 * z) + 0.15 * jnp.sin(2.1 * x + 1.3 * z)
    tree = bones.vessel_tree_chord(bones.random_vessels(tree_key, a), bent_x, bent_z)
    vessels = inside * (1.6 * tree + bones.hilum_chord(a, x - a.turn, z))
    grain = 0.16 * inside * texture(texture_key, x, z)
    gas = jnp.minimum(anatomy.airway_chord(a, x, z), 0.5 * body)
    bone = (
        bones.rib_chord(a, x, z) + bones.spine_chord(a, x, z) + bones.shoulder_chord(a, x, z)
    ) * jnp.where(body > 0, 1.0, 0.0)
    soft = jnp.maximum(body - air - gas + vessels + grain, 0.0)
    return MU_SOFT * soft + MU_LUNG * air + MU_BONE * a.bone * bone


def texture(key: Array, x: Array, z: Array) -> Array:
    """Draws smooth noise of about unit variance, from sinusoids: the same at any pixel size."""
    unit_12x3 = jax.random.uniform(key, (12, 3))
    octaves = jnp.log(14.0 / 1.6)  # wavelengths of 0.45 to 4 cm

    def one(total: Array, wave: Array) -> tuple[Array, None]:
        angle, frequency, phase = 2 * jnp.pi * wave[0], 1.6 * jnp.exp(octaves * wave[1]), wave[2]
        along = x * jnp.cos(angle) + z * jnp.sin(angle)
        return total + jnp.sin(frequency * along + 2 * jnp.pi * phase), None

    total, _ = jax.lax.scan(one, jnp.zeros_like(x), unit_12x3)
    return total / jnp.sqrt(6.0)


def _foreign_attenuation(unit_N: Array, a: anatomy.Anatomy, x: Array, z: Array) -> Array:
    """Integrates attenuation of what some films show: a tube or wire, a port, an opacity."""
    uniform, chance = anatomy.draws(unit_N)

    # A tube or wire hangs from above along a wave; some patients have a port.
    aside, wave, shift = uniform(-4.0, 4.0), uniform(-1.0, 1.0), uniform(-3.0, 3.0)
    axis = aside + 1.5 * wave * jnp.sin(0.3 * z + shift)
    slope = 0.45 * wave * jnp.cos(0.3 * z + shift)
    end = a.apex + uniform(6.0, 22.0)
    tube = bones.tube_chord((x - axis) / jnp.sqrt(1 + slope**2), 0.16, 0.5)
    tube *= jax.nn.sigmoid((end - z) / 0.1)
    port = bones.tube_chord(jnp.hypot(x - 7.5 * jnp.sign(aside), z - a.apex - 6.5), 1.1, 0.6)
    metal = chance(0.15) * tube + chance(0.05) * 0.4 * port

    # An opacity: water in the lung, dense in its middle; the mask keeps the lung's outline.
    centre_x = jnp.sign(uniform(-1.0, 1.0)) * uniform(4.5, 10.5)
    centre_z = a.apex + uniform(4.0, 18.0)
    reach = uniform(1.5, 4.5)
    blob = jnp.exp(-(((x - centre_x) ** 2 + (z - centre_z) ** 2) / reach**2))
    return MU_METAL * metal + MU_SOFT * chance(0.2) * uniform(1.0, 4.0) * blob


class Overlay(NamedTuple):
    """Maps of what lies over the patient's picture."""

    marker_HxW: Array  # in [0, 1]
    open_HxW: Array  # in [0, 1]: 0 where the collimator covers the detector


def random_overlay(unit_N: Array, across: Array, down: Array) -> Overlay:
    """Draws side marker and collimator.

    across and down are positions as fractions of the field, from its centre.
    """
    uniform, chance = anatomy.draws(unit_N)
    # An L or an R of strokes, in an upper corner, on its own side.
    left = uniform(-1.0, 1.0) > 0
    u = (across - jnp.where(left, 0.38, -0.42)) / 0.032
    v = (down + 0.42) / 0.032
    marker = jnp.where(left, _letter_l(u, v), _letter_r(u, v)) * chance(0.5)

    # Edges of the collimated field, from the field's border; the lower one may come far in.
    wide = 0.1 * (1 - chance(0.4))
    nearest = jnp.minimum(
        0.5 + wide + uniform(-0.02, 0.06) - jnp.abs(across + uniform(-0.02, 0.02)),
        jnp.minimum(0.51 + wide + down, 0.5 + wide - down - uniform(-0.05, 0.08)),
    )
    return Overlay(marker_HxW=marker, open_HxW=jax.nn.sigmoid(nearest / 0.0015))


def _stroke(u: Array, v: Array, u0: float, v0: float, u1: float, v1: float) -> Array:
    """Draws a stroke of a letter that is one unit high: 1 inside."""
    du, dv = u1 - u0, v1 - v0
    t = jnp.clip(((u - u0) * du + (v - v0) * dv) / (du**2 + dv**2), 0.0, 1.0)
    return jax.nn.sigmoid((0.11 - jnp.hypot(u - u0 - t * du, v - v0 - t * dv)) / 0.02)


def _letter_l(u: Array, v: Array) -> Array:
    return jnp.maximum(_stroke(u, v, 0, 0, 0, 1), _stroke(u, v, 0, 1, 0.55, 1))


def _letter_r(u: Array, v: Array) -> Array:
    strokes = (
        (0, 0, 0, 1),
        (0, 0, 0.5, 0.05),
        (0.5, 0.05, 0.55, 0.4),
        (0.55, 0.4, 0, 0.5),
        (0.2, 0.5, 0.6, 1),
    )
    return functools.reduce(jnp.maximum, (_stroke(u, v, *stroke) for stroke in strokes))


def expose(
    unit_N: Array, noise_key: Array, attenuation: Array, lung: Array, overlay: Overlay, pixel: Array
) -> Array:
    """Turns line integrals into the displayed film; `pixel` is the width of a pixel in cm."""
    uniform, _ = anatomy.draws(unit_N)
    size = attenuation.shape[0]
    primary = jnp.exp(-attenuation)
    # Scatter: a share of what passes nearby; broad, so a 16x16 grid carries it.
    coarse_16x16 = primary.reshape(16, size // 16, 16, size // 16).mean((1, 3))
    fine, coarse = (jnp.arange(size) + 0.5) / size, (jnp.arange(16) + 0.5) / 16
    scatter = _gaussian(coarse_16x16, fine, coarse, 0.08)
    heel = 1 + uniform(-0.15, 0.15) * jnp.linspace(-1, 1, size)[:, None]
    beam = (primary + uniform(0.08, 0.35) * scatter) * heel
    # Quantum noise by pixel area, then the detector's blur.
    photons = jnp.exp(uniform(np.log(2e6), np.log(2e7))) * pixel**2
    noise = jax.random.normal(noise_key, beam.shape) * jnp.sqrt(beam / photons)
    rows = jnp.arange(size)
    beam = _gaussian(jnp.maximum(beam + noise, 1e-5), rows, rows, uniform(0.03, 0.08) / pixel)
    density = -jnp.log(beam)
    # The display's window lies about the lungs' density, as automatic exposure sets it.
    lungs_mean = jnp.where(lung, density, 0.0).sum() / jnp.maximum(lung.sum(), 1)
    low, high = lungs_mean - uniform(0.4, 0.8), lungs_mean + uniform(0.8, 1.5)
    # Film and display flatten towards both ends: a toe and a shoulder in place of hard clips.
    above = jax.nn.softplus(8 * (density - low)) / 8
    shown = 1 - jnp.exp(-1.5 * above / (high - low))
    shown = shown ** jnp.exp(uniform(-0.75, 0.45))
    floor, ceiling = uniform(0.0, 0.12), uniform(0.82, 1.0)
    shown = floor + (ceiling - floor) * shown
    covered = jnp.where(ceiling > 0.97, 1.0, 0.0)  # unexposed film: white, or masked black
    shown = shown * overlay.open_HxW + covered * (1 - overlay.open_HxW)
    return jnp.maximum(shown, overlay.marker_HxW).astype(jnp.float32)


def _gaussian(image_MxM: Array, to_N: Array, from_M: Array, sigma: Array | float) -> Array:
    """Smooths a square image onto [N, N], each axis a product with normalised Gaussian weights.

    to_N, from_M: positions of the pixels' centres, in sigma's unit.
    """
    apart_NxM = (to_N[:, None] - from_M[None, :]) / jnp.maximum(sigma, 1e-3)
    weights_NxM = jnp.exp(-0.5 * apart_NxM**2)
    weights_NxM /= weights_NxM.sum(1, keepdims=True)
    return weights_NxM @ image_MxM @ weights_NxM.T
