"""The sanity gate of prediction: says in words when an image is nothing that the X-ray model knows.

`examine` looks at the image, `check_mask` at what was predicted of it. A linear classifier on
oriented gradients and a thumbnail, independent of the segmentation network, tells upright frontal
chest films from inverted, turned and partial ones and from everything else; weights/gate.npz holds
it, and `python -m tools.fit_gate DIR [DIR...]` fits it anew. What needs no fitting (blank,
coloured, tiny, long images) is checked directly. `benchmarks/quality/gate.py` measures all of it.

The package's own was fitted to the training splits, images alone, of two sets:
python -m tools.fit_gate ../shared/data/shenzhen ../shared/data/montgomery (4 minutes on 2 cores).

Lateral films are not among the classes, for want of any to fit to or test with: some will pass.
Nor is a mirror image told: the heart is on the right of some patients too. CT is none of the gate's
business.
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
from jaxlung.io.grey import to_grey8

WEIGHTS = Path(__file__).parents[1] / "weights" / "gate.npz"
CLASSES = (
    "upright",
    "inverted",
    "turned 90",
    "turned 180",
    "turned 270",
    "part",
    "photographed",
    "other",
)
UPRIGHT = 0.15  # probability of the class below which a warning is given
INVERTED = 0.95  # least probability, and of the negative being upright, to turn an image over
BLANK = 8.0  # grey levels of 255 between the 1st and 99th percentile
TINY = 64  # pixels of the shorter side
LONG = 3.0  # ratio of the sides; one lung alone is up to about 2.5
COLOUR, COLOURED_SHARE = 24.0, 0.05  # grey levels off a tint; share of the pixels that are
WORDS = {
    "inverted": "looks inverted (air is bright): turned over before prediction",
    "turned 90": "looks rotated by 90 degrees clockwise: turn it upright",
    "turned 180": "looks upside down (rotated by 180 degrees, or flipped): turn it upright",
    "turned 270": "looks rotated by 90 degrees counter-clockwise: turn it upright",
    "part": "shows one lung or a part of the chest, if one at all: give the whole film",
    "photographed": "looks like a photograph of a film: give the image file itself",
    "other": "no frontal chest X-ray, as far as can be told: check that it is the right picture",
}


# With these a picture's left need not be the patient's right.
_SIDES_UNSURE = {WORDS[name] for name in WORDS if name != "inverted"}


class Verdict(NamedTuple):
    """What `examine` finds."""

    inverted: bool  # turn the grey image over (255 - image) before prediction
    warnings: tuple[str, ...]  # a sentence each; none for an upright frontal chest X-ray


def shows_sides(warnings: Sequence[str]) -> bool:
    """Whether right and left can be told by place: not so of turned or partial films."""
    return not _SIDES_UNSURE.intersection(warnings)


def probabilities(features_D: np.ndarray, model: dict[str, np.ndarray]) -> np.ndarray:
    """float32 [..., classes] of features [..., D], by a model as `read_gate` returns it."""
    logits = (features_D - model["mean"]) @ model["weights"] + model["bias"]
    logits = logits - logits.max(-1, keepdims=True)
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def distance(features_D: np.ndarray, model: dict[str, np.ndarray]) -> np.ndarray:
    """Squared distance, float32 [...], of features [..., D] from what upright films span.

    A classifier may be sure of a picture unlike any that it was fitted to; this is then large.
    """
    centred = features_D - model["mean"] - model["centre"]
    along = centred @ model["basis"].astype(np.float32)
    return (centred**2).sum(-1) - (along**2).sum(-1)


@functools.cache
def read_gate(path: Path = WEIGHTS) -> dict[str, np.ndarray]:
    """What `fit_gate.fit` found, all of it float32.

    Returns:
        mean [D], weights [D, classes], bias [classes]: the classifier; centre [D], basis [D, K]
        and limit []: the principal components of upright films, and the usual distance.

    Raises:
        InputError: the file is missing or damaged, or of other classes.
    """
    names = ("mean", "weights", "bias", "centre", "basis", "limit")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            if tuple(arrays["classes"]) != CLASSES:
                raise ValueError("it is of other classes")
            return {name: arrays[name].astype(np.float32) for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is damaged ({error}); install jaxlung anew") from error


def examine(image: np.ndarray, fitted: dict[str, np.ndarray] | None = None) -> Verdict:
    """Whether an image is what the X-ray model was trained on: an upright frontal chest film.

    Args:
        image: as `preprocess.to_canvas` takes it: [H, W], [H, W, 1] or [H, W, 3 or 4].
        fitted: as `read_gate` returns it; by default what comes with the package.

    Returns:
        a verdict. `inverted` needs more evidence than a warning, since turning a good film over
        would ruin its mask: the image has to look inverted and its negative upright.

    Raises:
        InputError: what `grey.to_grey8` refuses.
    """
    grey_HxW = to_grey8(image)
    warnings = []
    if is_coloured(np.asarray(image)):
        warnings.append("is in colour, a photograph or a drawing: give the X-ray image itself")
    height, width = grey_HxW.shape
    if min(height, width) < TINY:
        warnings.append(f"is tiny ({height}x{width} pixels): give the image at its full size")
    square_SxS, aspect = small_square(grey_HxW)
    low, high = np.quantile(square_SxS, (0.01, 0.99))
    if high - low < BLANK:
        warnings.append("is blank or almost so: check that it is the right picture")
        return Verdict(False, tuple(warnings))
    if max(aspect, 1 / aspect) > LONG:
        warnings.append(
            f"is {max(aspect, 1 / aspect):.1f} times as {'wide' if aspect > 1 else 'high'} as "
            f"{'high' if aspect > 1 else 'wide'}, which no frontal chest X-ray is"
        )
    inverted, told = _classify(square_SxS, fitted or read_gate())
    return Verdict(inverted, (*warnings, *told))


def _classify(square_SxS: np.ndarray, model: dict[str, np.ndarray]) -> Verdict:
    seen_D = features(square_SxS)
    likely = probabilities(seen_D, model)
    if likely[0] >= UPRIGHT:
        is_usual = distance(seen_D, model) <= model["limit"]
        return Verdict(False, () if is_usual else (WORDS["other"],))
    name = CLASSES[1 + int(likely[1:].argmax())]
    if name != "inverted":
        return Verdict(False, (WORDS[name],))
    negative_D = features(255 - square_SxS)
    likely_after = probabilities(negative_D, model)
    after = CLASSES[int(likely_after.argmax())]
    if after.startswith("turned"):
        return Verdict(False, ("looks inverted (air is bright): invert it", WORDS[after]))
    if after != "upright" or distance(negative_D, model) > model["limit"]:
        return Verdict(False, (WORDS["other"],))
    if likely[1] < INVERTED or likely_after[0] < INVERTED:
        return Verdict(False, ("may be inverted (air seems bright): invert it if it is",))
    return Verdict(True, (WORDS["inverted"],))


def is_coloured(image: np.ndarray) -> bool:
    """Whether the channels of [H, W, 3 or 4] differ by more than a tint or a few drawn marks.

    Red and blue are compared with what a straight line from green leads to expect, which a tinted
    film follows. Some 128x128 pixels are looked at.
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
