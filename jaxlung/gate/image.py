"""Recognises images that the X-ray model does not know, and says in words what they look like.

A small network on oriented gradients and a thumbnail tells upright frontal chest films from
inverted, turned, lateral and partial ones, and from everything else. It is independent of the
segmentation network. weights/gate.npz holds it, and `python -m tools.fit_gate` fits it anew.
Blank, coloured, tiny and long images need no fitting: they are checked directly.
`benchmarks/quality/gate.py` measures all of it.

Limits: a mirror image passes, since the heart is on the right of some patients too; for the same
reason a film that is flipped upside down is turned as if it were rotated.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxlung.gate.classifier import CLASSES, Fitted, distance, probabilities, read_gate
from jaxlung.gate.features import features, small_square
from jaxlung.io.grey import BLANK, measure_spread, to_grey8

UPRIGHT = 0.15  # probability of the class below which a warning is given
# Least probability of being lateral, of that of being upright. Fitted without Shenzhen's films, or
# without Montgomery's, no film of that set has more than 0.08.
LATERAL = 0.3
LOW_CONTRAST = 8.0  # grey levels of 255, of `measure_spread`
TINY = 64  # pixels of the shorter side
LONG = 3.0  # ratio of the sides; a picture of one lung reaches about 2.5
COLOUR = 24.0  # grey levels between a pixel and a tint
COLOURED_SHARE = 0.05  # share of the pixels that differ by more than COLOUR
# Least probability of being inverted or rotated, and of being upright after, to turn an image.
# Labels were smoothed by 0.05 in training, so that few probabilities are above 0.95.
SURE = 0.9
# A corner of a slice: its share of either side, the share of the grey range that is bright or dark,
# and of its pixels that have to be. On 67 slices of three scans, in five windows and three fields
# of view, negatives of the whole field have four bright corners. No slice has three and none that
# is dark, but in a window that ends at 0 HU and a field of view of a quarter of the scan's.
CORNER, EXTREME, MOST, BRIGHT_CORNERS = 0.06, 0.15, 0.8, 3
DIM, BONE = 128, 220  # of 255: bone below DIM is brought to BONE, that of 380 HU in configs/ct.py
CT = 0.5  # least probability of a CT slice, to give it to a model of CT; no film has above 0.15
WORDS = {
    "inverted": "looks inverted (air is bright): turned over before prediction",
    "turned 90": "looks rotated by 90 degrees clockwise: turn it upright",
    "turned 180": "looks upside down (rotated by 180 degrees, or flipped): turn it upright",
    "turned 270": "looks rotated by 90 degrees counter-clockwise: turn it upright",
    "part": "shows one lung or a part of the chest, if one at all: give the whole film",
    "photographed": "looks like a photograph of a film: give the image file itself",
    "lateral": "is a lateral film (the chest from the side): give a frontal one",
    "ct": "is a CT slice: take a model of CT",
    "other": "no frontal chest X-ray, as far as can be told: check that it is the right picture",
}
MAYBE_INVERTED = "may be inverted (air seems bright): invert it if it is"
NO_SLICE = "no CT slice, as far as can be told: check that it is the right picture"
TURNED = {
    90: "looks rotated by 90 degrees clockwise: the film was turned by 90 degrees back",
    180: "looks upside down: the film was turned by 180 degrees",
    270: "looks rotated by 90 degrees counter-clockwise: the film was turned by 90 degrees back",
}
# With these a picture's left need not be the patient's right.
SIDES_UNSURE = {WORDS[name] for name in WORDS if name != "inverted"}
# Classes as they are once a picture is mirrored.
_MIRRORED = {"turned 90": "turned 270", "turned 270": "turned 90"}


class Verdict(NamedTuple):
    """What `examine` finds."""

    inverted: bool  # turn the grey image over (255 - image) before prediction
    warnings: tuple[str, ...]  # a sentence each; none for an upright frontal chest X-ray
    degrees: int = 0  # the image is surely rotated clockwise by these: 90, 180 or 270
    is_ct: bool = False  # the image is surely an axial slice of CT


def shows_sides(warnings: Sequence[str]) -> bool:
    """Tells whether a lung's place says its side: not so in lateral or partial films."""
    return not SIDES_UNSURE.intersection(warnings)


def rotate(plane_HxW: np.ndarray, degrees: int) -> np.ndarray:
    """Rotates clockwise by a multiple of 90 degrees.

    Example:
        >>> rotate(np.array([[1, 2], [3, 4]]), 90).tolist()
        [[3, 1], [4, 2]]
    """
    return np.ascontiguousarray(np.rot90(plane_HxW, -degrees // 90))


def examine(image: np.ndarray, fitted: Fitted | None = None, *, turn: bool = True) -> Verdict:
    """Tells whether an image is an upright frontal chest film, as the X-ray model knows them.

    Args:
        image: [H, W], [H, W, 1] or [H, W, 3 or 4], as `preprocess.to_canvas` takes it.
        fitted: as `read_gate` returns it; by default what comes with the package.
        turn: tell by how much a rotated film is to be turned; False: only warn of it.

    Returns:
        A verdict. `inverted` and `degrees` need more evidence than a warning, since turning a good
        film would ruin its mask: the image has to look inverted or rotated, and upright after.

    Raises:
        InputError: what `grey.to_grey8` refuses.

    Example:
        >>> examine(np.zeros((200, 200), np.uint8)).warnings
        ('is blank or almost so: check that it is the right picture',)
    """
    image = np.asarray(image)
    return examine_grey(to_grey8(image), coloured=is_coloured(image), fitted=fitted, turn=turn)


def examine_grey(
    grey_HxW: np.ndarray,
    *,
    coloured: bool = False,
    fitted: Fitted | None = None,
    turn: bool = True,
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
    found = _classify(square_SxS, fitted or read_gate(), turn)
    return found._replace(warnings=(*warnings, *found.warnings))


def examine_slice(grey_HxW: np.ndarray, fitted: Fitted | None = None) -> Verdict:
    """Tells whether a picture is an axial slice of CT, and whether it is a negative.

    Air lies in the corners of a slice, or what fills the frame about a round one. In every window
    it is black, so that bright corners show a negative. Where the field of view ends within the
    body, corners are neither.

    Args:
        grey_HxW: uint8 [H, W], as `grey.to_grey8` makes it.

    Example:
        >>> examine_slice(np.zeros((200, 200), np.uint8)).warnings == (NO_SLICE,)
        True
    """
    square_SxS, _ = small_square(grey_HxW)
    if measure_spread(square_SxS) < BLANK:
        return Verdict(False, (NO_SLICE,))
    bright, dark = _count_corners(grey_HxW)
    inverted = bright >= BRIGHT_CORNERS and not dark
    likely, _ = _judge(255 - square_SxS if inverted else square_SxS, fitted or read_gate())
    if max(likely, key=likely.__getitem__) != "ct":
        return Verdict(False, (NO_SLICE,))
    if bright and not dark:
        return Verdict(inverted, (WORDS["inverted"] if inverted else MAYBE_INVERTED,))
    return Verdict(False, ())


def show_slice(grey_HxW: np.ndarray) -> tuple[np.ndarray, Verdict]:
    """Returns a picture of a CT slice as the model is to see it, and what `examine_slice` says."""
    verdict = examine_slice(grey_HxW)
    return stretch_slice(255 - grey_HxW if verdict.inverted else grey_HxW), verdict


def stretch_slice(grey_HxW: np.ndarray) -> np.ndarray:
    """Spreads a picture of a CT slice that leaves most of the bright greys to metal, uint8 [H, W].

    All of a scanner's range in 8 bits, -1024 to 3071 HU, shows a chest in the darkest third, in
    few grey levels apart. Black stays black, and bone becomes as bright as in a window of lung and
    soft tissue. Other pictures stay as they are.

    Example:
        >>> stretch_slice(np.array([[0, 30, 60]], np.uint8)).tolist()
        [[0, 111, 221]]
    """
    bone = float(np.quantile(grey_HxW, 0.995))
    if not 0 < bone < DIM:
        return grey_HxW
    return np.rint(np.minimum(grey_HxW * (BONE / bone), 255)).astype(np.uint8)


def _count_corners(grey_HxW: np.ndarray) -> tuple[int, int]:
    """Counts the corners of a picture that are bright all over, and those that are dark."""
    low, high = int(grey_HxW.min()), int(grey_HxW.max())
    height, width = (max(2, round(CORNER * side)) for side in grey_HxW.shape)
    corners = [
        (grey_HxW[rows, columns] - np.float32(low)) / max(high - low, 1)
        for rows in (slice(height), slice(-height, None))
        for columns in (slice(width), slice(-width, None))
    ]
    bright = sum(float((corner > 1 - EXTREME).mean()) > MOST for corner in corners)
    dark = sum(float((corner < EXTREME).mean()) > MOST for corner in corners)
    return bright, dark


def _classify(square_SxS: np.ndarray, fitted: Fitted, turn: bool) -> Verdict:
    likely, is_usual = _judge(square_SxS, fitted)
    name = max(WORDS, key=likely.__getitem__)
    if name == "lateral" and likely["lateral"] >= LATERAL * likely["upright"]:
        return Verdict(False, (WORDS["lateral"],))
    if likely["upright"] >= UPRIGHT:
        return Verdict(False, () if is_usual else (WORDS["other"],))
    if name == "ct":
        return Verdict(False, (WORDS["ct"],), is_ct=likely["ct"] >= CT)
    if name == "inverted":
        return _classify_inverted(square_SxS, likely["inverted"], fitted)
    if name.startswith("turned") and turn:
        degrees = int(name.split()[1])
        after, is_usual = _judge(rotate(square_SxS, -degrees), fitted)
        if min(likely[name], after["upright"]) >= SURE and is_usual:
            return Verdict(False, (TURNED[degrees],), degrees)
    return Verdict(False, (WORDS[name],))


def _classify_inverted(square_SxS: np.ndarray, likely: float, fitted: Fitted) -> Verdict:
    after, is_usual = _judge(255 - square_SxS, fitted)
    name = max(CLASSES, key=after.__getitem__)
    if name.startswith("turned"):
        return Verdict(False, ("looks inverted (air is bright): invert it", WORDS[name]))
    if name != "upright" or not is_usual:
        if name == "ct" and after["ct"] >= CT:
            return Verdict(False, (WORDS["ct"],), is_ct=True)
        return Verdict(False, (WORDS["other"],))
    if min(likely, after["upright"]) < SURE:
        return Verdict(False, (MAYBE_INVERTED,))
    return Verdict(True, (WORDS["inverted"],))


def _judge(square_SxS: np.ndarray, fitted: Fitted) -> tuple[dict[str, float], bool]:
    """Computes each class's probability, and whether the features lie in upright films' span.

    They are the means of those of a picture and its mirror image.
    """
    features_2xD = np.stack([features(square_SxS), features(square_SxS[:, ::-1])])
    own, mirrored = probabilities(features_2xD, fitted)
    of_mirrored = dict(zip(CLASSES, mirrored, strict=True))
    likely = {
        name: float(probability + of_mirrored[_MIRRORED.get(name, name)]) / 2
        for name, probability in zip(CLASSES, own, strict=True)
    }
    return likely, bool(distance(features_2xD, fitted).mean() <= fitted["limit"])


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
