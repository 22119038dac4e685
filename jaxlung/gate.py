"""The sanity gate of prediction: says in words when an image is nothing that the X-ray model knows.

`examine` looks at the image, `check_mask` at what was predicted of it. A linear classifier on
oriented gradients and a thumbnail, independent of the segmentation network, tells upright frontal
chest films from inverted, turned and partial ones and from everything else; weights/gate.npz holds
it, and `python -m jaxlung.gate DIR [DIR...]` fits it anew. What needs no fitting (blank, coloured,
tiny, long images) is checked directly. `benchmarks/gate.py` measures all of it.

The package's own was fitted to the training splits, images alone, of two sets:
python -m jaxlung.gate ../shared/data/shenzhen ../shared/data/montgomery (4 minutes on 2 cores).

Lateral films are not among the classes, for want of any to fit to or test with: some will pass.
Nor is a mirror image told: the heart is on the right of some patients too. CT is none of the gate's
business.
"""

import argparse
import functools
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from jaxlung.errors import InputError, one_line_errors
from jaxlung.gate_features import features, small_square
from jaxlung.mask_checks import has_one_lung, mask_shape
from jaxlung.preprocess import to_grey8
from jaxlung.whole import written_whole

WEIGHTS = Path(__file__).parent / "weights" / "gate.npz"
CLASSES = (
    "upright", "inverted", "turned 90", "turned 180", "turned 270", "part", "photographed", "other",
)  # fmt: skip
SHAPE_SIDE = 256  # pixels: a mask's shape needs no more, and large masks are slow
UPRIGHT = 0.15  # probability of the class below which a warning is given
INVERTED = 0.95  # least probability, and of the negative being upright, to turn an image over
BLANK = 8.0  # grey levels of 255 between the 1st and 99th percentile
TINY = 64  # pixels of the shorter side
LONG = 3.0  # ratio of the sides; one lung alone is up to about 2.5
COLOUR, COLOURED_SHARE = 24.0, 0.05  # grey levels off a tint; share of the pixels that are
# Of 468 training masks (Shenzhen 381, Montgomery 87) the lungs are 10 % to 41 % of the picture;
# bars and wide fields leave less, so that only far less or more is told.
SMALL_LUNGS, LARGE_LUNGS = 0.04, 0.5
LUNG_RATIO = 3.6  # larger over smaller lung: 3.56 in one of those masks, 2.6 in 99.5 % of them
EXPECTED_DICE = 0.94  # the bundled model's is above it on all 85 films of both validation splits
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
    """float32 [..., classes] of features [..., D], by a model as `read` returns it."""
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
def read(path: Path = WEIGHTS) -> dict[str, np.ndarray]:
    """What `gate_fit.fit` found, all of it float32.

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
        fitted: as `read` returns it; by default what comes with the package.

    Returns:
        a verdict. `inverted` needs more evidence than a warning, since turning a good film over
        would ruin its mask: the image has to look inverted and its negative upright.

    Raises:
        InputError: what `preprocess.to_grey8` refuses.
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
    inverted, told = _classify(square_SxS, fitted or read())
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


def check_mask(mask_HxW: np.ndarray, confidence: float) -> tuple[str, ...]:
    """What a prediction says against itself; it knows nothing of the image.

    Args:
        mask_HxW: bool [H, W], the lungs as they will be written.
        confidence: the Dice to expect, `calibration.expected_dice`.

    Returns:
        a sentence for each fault; none for two lungs of likely sizes, outlined with certainty.
    """
    if not mask_HxW.any():
        return ("no lung was found: check that the image shows a chest",)
    scale = min(1.0, SHAPE_SIDE / max(mask_HxW.shape))
    height, width = (max(1, round(side * scale)) for side in mask_HxW.shape)
    grey = mask_HxW.astype(np.uint8) * 255
    cover = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    shape = mask_shape(cover > 127, float("nan"))
    warnings = []
    if shape.pieces == 1 and has_one_lung(shape):
        warnings.append("only one lung was found: check the other side")
    if not SMALL_LUNGS <= shape.coverage <= LARGE_LUNGS:
        size = "small" if shape.coverage < SMALL_LUNGS else "large"
        warnings.append(f"the lungs are implausibly {size} for the picture: check the mask")
    first, second = 1 - shape.second - shape.stray, shape.second
    if second and first > LUNG_RATIO * second:
        warnings.append(f"one lung is {first / second:.1f} times the other's size: check the mask")
    if confidence < EXPECTED_DICE:
        warnings.append(
            f"the outlines are uncertain (expected Dice {confidence:.2f}): check the mask"
        )
    return tuple(warnings)


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m jaxlung.gate",
        description="Fits the gate to the training splits of folders of X-rays, upright and not "
        "inverted, with images/ and masks/.",
    )
    parser.add_argument("dirs", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help=f"default: {WEIGHTS.name}")
    arguments = parser.parse_args(argv)
    from jaxlung.gate_fit import fit  # which reads films, with JAX

    arrays: Any = fit(arguments.dirs)
    with written_whole(arguments.out, by_suffix=True) as partial:
        np.savez_compressed(partial, **arrays)
    print(arguments.out)


if __name__ == "__main__":
    main()
