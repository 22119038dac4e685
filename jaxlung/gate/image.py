"""Recognises images that the X-ray model does not know, and says in words what they look like.

A linear classifier on oriented gradients and a thumbnail tells upright frontal chest films from
inverted, turned and partial ones, and from everything else. It is independent of the segmentation
network. weights/gate.npz holds it, and `python -m tools.fit_gate DIR [DIR...]` fits it anew. Blank,
coloured, tiny and long images need no fitting: they are checked directly.
`benchmarks/quality/gate.py` measures all of it.

The package's classifier was fitted to the images of the training splits of two sets, in 4 minutes
on 2 cores: python -m tools.fit_gate ../shared/data/shenzhen ../shared/data/montgomery

Limits: there were no lateral films to fit to or to test with, so some will pass. A mirror image
passes, since the heart is on the right of some patients too. CT slices are not examined.
"""

import functools
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxlung.errors import InputError
from jaxlung.gate.features import features, small_square
from jaxlung.io.grey import BLANK, measure_spread, to_grey8

WEIGHTS = Path(__file__).parents[1] / "weights" / "gate.npz"
UPRIGHT = 0.15  # probability of the class below which a warning is given
INVERTED = 0.95  # least probability, and of the negative being upright, to turn an image over
LOW_CONTRAST = 8.0  # grey levels of 255, of `measure_spread`
TINY = 64  # pixels of the shorter side
LONG = 3.0  # ratio of the sides; a picture of one lung reaches about 2.5
COLOUR = 24.0  # grey levels between a pixel and a tint
COLOURED_SHARE = 0.05  # share of the pixels that differ by more than COLOUR
WORDS = {
    "inverted": "looks inverted (air is bright): turned over before prediction",
    "turned 90": "looks rotated by 90 degrees clockwise: turn it upright",
    "turned 180": "looks upside down (rotated by 180 degrees, or flipped): turn it upright",
    "turned 270": "looks rotated by 90 degrees counter-clockwise: turn it upright",
    "part": "shows one lung or a part of the chest, if one at all: give the whole film",
    "photographed": "looks like a photograph of a film: give the image file itself",
    "other": "no frontal chest X-ray, as far as can be told: check that it is the right picture",
}
CLASSES = ("upright", *WORDS)


# With these a picture's left need not be the patient's right.
_SIDES_UNSURE = {WORDS[name] for name in WORDS if name != "inverted"}


Fitted = dict[str, np.ndarray]  # as `read_gate` returns it


class Verdict(NamedTuple):
    """What `examine` finds."""

    inverted: bool  # turn the grey image over (255 - image) before prediction
    warnings: tuple[str, ...]  # a sentence each; none for an upright frontal chest X-ray


def shows_sides(warnings: Sequence[str]) -> bool:
    """Tells whether a lung's place says its side: not so in turned or partial films."""
    return not _SIDES_UNSURE.intersection(warnings)


def probabilities(features_D: np.ndarray, fitted: Fitted) -> np.ndarray:
    """Returns the classes' probabilities, float32 [..., classes], for features [..., D]."""
    logits = (features_D - fitted["mean"]) @ fitted["weights"] + fitted["bias"]
    logits = logits - logits.max(-1, keepdims=True)
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def distance(features_D: np.ndarray, fitted: Fitted) -> np.ndarray:
    """Returns the squared distance, float32 [...], of features [..., D] from upright films' span.

    The classifier may be sure of a picture unlike any that it was fitted to. The distance is then
    large.
    """
    centred = features_D - fitted["mean"] - fitted["centre"]
    along = centred @ fitted["basis"].astype(np.float32)
    return (centred**2).sum(-1) - (along**2).sum(-1)


@functools.cache
def read_gate(path: Path = WEIGHTS) -> Fitted:
    """Reads what tools/fit_gate.py has written.

    Returns:
        The classifier: mean [D], weights [D, classes], bias [classes]. The principal components of
        upright films: centre [D], basis [D, K], and limit [], the usual distance. All float32.

    Raises:
        InputError: the file is missing, damaged or has other classes.
    """
    names = ("mean", "weights", "bias", "centre", "basis", "limit")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            if tuple(arrays["classes"]) != CLASSES:
                raise ValueError("it is of other classes")
            return {name: arrays[name].astype(np.float32) for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is damaged ({error}); install jaxlung anew") from error


def examine(image: np.ndarray, fitted: Fitted | None = None) -> Verdict:
    """Tells whether an image is an upright frontal chest film, as the X-ray model knows them.

    Args:
        image: [H, W], [H, W, 1] or [H, W, 3 or 4], as `preprocess.to_canvas` takes it.
        fitted: as `read_gate` returns it; by default what comes with the package.

    Returns:
        A verdict. `inverted` needs more evidence than a warning, since turning a good film over
        would ruin its mask: the image has to look inverted and its negative upright.

    Raises:
        InputError: what `grey.to_grey8` refuses.

    Example:
        >>> examine(np.zeros((200, 200), np.uint8)).warnings
        ('is blank or almost so: check that it is the right picture',)
    """
    image = np.asarray(image)
    return examine_grey(to_grey8(image), coloured=is_coloured(image), fitted=fitted)


def examine_grey(
    grey_HxW: np.ndarray, *, coloured: bool = False, fitted: Fitted | None = None
) -> Verdict:
    """As `examine`, for an image uint8 [H, W] that `grey.to_grey8` has made.

    Args:
        coloured: whether the image was in colour before, by `is_coloured`.
    """
    warnings = []
    if coloured:
        warnings.append("is in colour, a photograph or a drawing: give the X-ray image itself")
    height, width = grey_HxW.shape
    if min(height, width) < TINY:
        warnings.append(f"is tiny ({height}x{width} pixels): give the image at its full size")
    square_SxS, aspect = small_square(grey_HxW)
    spread = measure_spread(square_SxS)
    if spread < LOW_CONTRAST:
        looks = "is blank or almost so" if spread < BLANK else "has low contrast"
        warnings.append(f"{looks}: check that it is the right picture")
        return Verdict(False, tuple(warnings))
    if max(aspect, 1 / aspect) > LONG:
        warnings.append(
            f"is {max(aspect, 1 / aspect):.1f} times as {'wide' if aspect > 1 else 'high'} as "
            f"{'high' if aspect > 1 else 'wide'}, which no frontal chest X-ray is"
        )
    inverted, more = _classify(square_SxS, fitted or read_gate())
    return Verdict(inverted, (*warnings, *more))


def _classify(square_SxS: np.ndarray, fitted: Fitted) -> Verdict:
    features_D = features(square_SxS)
    likely = probabilities(features_D, fitted)
    if likely[0] >= UPRIGHT:
        is_usual = distance(features_D, fitted) <= fitted["limit"]
        return Verdict(False, () if is_usual else (WORDS["other"],))
    name = CLASSES[1 + int(likely[1:].argmax())]
    if name != "inverted":
        return Verdict(False, (WORDS[name],))
    negative_D = features(255 - square_SxS)
    likely_after = probabilities(negative_D, fitted)
    after = CLASSES[int(likely_after.argmax())]
    if after.startswith("turned"):
        return Verdict(False, ("looks inverted (air is bright): invert it", WORDS[after]))
    if after != "upright" or distance(negative_D, fitted) > fitted["limit"]:
        return Verdict(False, (WORDS["other"],))
    if likely[1] < INVERTED or likely_after[0] < INVERTED:
        return Verdict(False, ("may be inverted (air seems bright): invert it if it is",))
    return Verdict(True, (WORDS["inverted"],))


def is_coloured(image: np.ndarray) -> bool:
    """Tells whether the channels of [H, W, 3 or 4] differ by more than a tint or a few drawn marks.

    In a tinted film red and blue are linear functions of green. This fits the lines and counts the
    pixels that lie far from them, among some 128x128 pixels.
    """
    if image.ndim != 3 or image.shape[-1] not in (3, 4):
        return False
    rows, columns = (max(1, side // 128) for side in image.shape[:2])
    colour_Nx3 = image[::rows, ::columns, :3].reshape(-1, 3).astype(np.float64)
    if image.dtype != np.uint8:
        span = float(np.ptp(colour_Nx3))
        colour_Nx3 = (colour_Nx3 - colour_Nx3.min()) * (255 / span if span > 0 else 0.0)
    green_Nx2 = np.stack([colour_Nx3[:, 1], np.ones(len(colour_Nx3))], 1)
    slopes, *_ = np.linalg.lstsq(green_Nx2, colour_Nx3[:, ::2], rcond=None)
    away_Nx2 = np.abs(colour_Nx3[:, ::2] - green_Nx2 @ slopes)
    return float((away_Nx2.max(1) > COLOUR).mean()) > COLOURED_SHARE
