"""Measures the thresholds of `jaxlung data check`: python benchmarks/quality/data_check.py DIR...

It takes folders with images/ and masks/, and plants faults in every pair, one at a time. It prints
the share of them that is found, and the number of pairs that are named although no fault was
planted. Faults are planted at 256x256. The mask that is expected of a pair does not change by that,
since the pair itself is left out of it.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from jaxlung.data import duplicates
from jaxlung.data_check import consensus
from jaxlung.data_check.files import SIDE, list_pairs
from jaxlung.io.images import read_image
from jaxlung.io.masks import read_mask
from jaxlung.masks import shape
from jaxlung.preprocess import is_lung, to_canvas

Change = Callable[[np.ndarray], np.ndarray]

REENCODINGS: dict[str, Change] = {
    "JPEG, quality 30": lambda image: cv2.imdecode(
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE
    ),
    "half the size": lambda image: cv2.resize(
        image, (SIDE // 2,) * 2, interpolation=cv2.INTER_AREA
    ),
    "30 grey levels brighter": lambda image: cv2.add(image, 30),
    "gamma 0.6": lambda image: np.rint((image / 255) ** 0.6 * 255).astype(np.uint8),
    "gamma 1.6": lambda image: np.rint((image / 255) ** 1.6 * 255).astype(np.uint8),
    "noise of 5 grey levels": lambda image: np.clip(
        image + np.random.default_rng(0).normal(0, 5, image.shape), 0, 255
    ).astype(np.uint8),
    "CLAHE": lambda image: cv2.createCLAHE(2.0, (8, 8)).apply(image),
    "1.3 times brighter, clipped": lambda image: cv2.multiply(image, 1.3),
    "1 % cut off each side": lambda image: image[3:-3, 3:-3],
    "2 % cut off each side": lambda image: image[5:-5, 5:-5],
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "negative": lambda image: 255 - image,
}


def main(directory: Path) -> None:
    pairs, _ = list_pairs(directory)
    canvases = [
        to_canvas(read_image(p.image), read_mask(p.mask), size=SIDE, fit="stretch")[:2]
        for p in pairs
    ]
    images = [image for image, _ in canvases]
    masks = [is_lung(coverage).astype(np.uint8) for _, coverage in canvases]
    standardised = [duplicates.standardise(image) for image in images]
    small = np.stack([consensus.shrink_mask(mask) for mask in masks])
    features = np.stack([consensus.describe_appearance(image) for image in standardised])
    expected = consensus.expected_masks(features, small)
    print(f"\n{directory.name}: {len(pairs)} pairs")
    _disagreements(masks, small, expected)
    _swaps(small, expected)
    _shapes(images, masks)
    _copies(images, standardised)


def _disagreements(masks: list, small: np.ndarray, expected: np.ndarray) -> None:
    disagreements = [
        consensus.measure_disagreement(*pair) for pair in zip(small, expected, strict=True)
    ]
    print(f"  agreement: median Dice {np.median([d.agreement for d in disagreements]):.4f}")
    named = {kind: 0 for kind in consensus.weigh_evidence(disagreements[0])}
    for d in disagreements:
        for kind, value in consensus.weigh_evidence(d).items():
            named[kind] += value >= 1
    print(f"  named without a planted fault: {named}")
    for title, kind, change in [
        *(
            (f"moved by {share:.0%} {way}", "misaligned_mask", _mover(share, *step))
            for share in (0.05, 0.1)
            for way, step in (
                ("right", (1, 0)),
                ("left", (-1, 0)),
                ("down", (0, 1)),
                ("up", (0, -1)),
            )
        ),
        ("mirrored left to right", "mirrored_mask", lambda mask: mask[:, ::-1]),
        ("upside down", "mirrored_mask", lambda mask: mask[::-1]),
    ]:
        changed = [consensus.shrink_mask(np.ascontiguousarray(change(mask))) for mask in masks]
        found = [
            consensus.weigh_evidence(consensus.measure_disagreement(mask, guess))[kind] >= 1
            for mask, guess in zip(changed, expected, strict=True)
        ]
        print(f"  {title}: {np.mean(found):.1%} found")


def _mover(share: float, x: int, y: int) -> Change:
    move = np.float32([[1, 0, x * share * SIDE], [0, 1, y * share * SIDE]])
    return lambda mask: cv2.warpAffine(mask, move, (SIDE, SIDE), flags=cv2.INTER_NEAREST)


def _swaps(small: np.ndarray, expected: np.ndarray) -> None:
    found = []
    for first in range(len(small)):
        second = int(np.random.default_rng(first).choice(np.delete(np.arange(len(small)), first)))
        pair = [first, second]
        found.append(bool(consensus.find_swaps(small[pair[::-1]], expected[pair])))
    named = len(consensus.find_swaps(small, expected))
    print(f"  exchanged with another: {np.mean(found):.1%} found; {named} pairs without a fault")


def _shapes(images: list, masks: list) -> None:
    def shapes(change: Change) -> list[shape.MaskShape]:
        changed = [change(mask) for mask in masks]
        return [
            shape.measure_shape(mask > 0, shape.measure_contrast(image, mask))
            for image, mask in zip(images, changed, strict=True)
        ]

    def half(mask: np.ndarray) -> np.ndarray:
        _, label, stats, _ = cv2.connectedComponentsWithStats(mask)
        return (label == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])).astype(np.uint8)

    own, inverted, single = shapes(lambda mask: mask), shapes(lambda mask: 1 - mask), shapes(half)
    coverage, aspect = shape.outliers(own)
    for title, planted, usual in (
        ("inverted", [shape.is_inverted(s) for s in inverted], [shape.is_inverted(s) for s in own]),
        (
            "larger lung alone",
            [shape.has_one_lung(s) for s in single],
            [shape.has_one_lung(s) for s in own],
        ),
    ):
        print(f"  {title}: {np.mean(planted):.1%} found; {sum(usual)} without a fault")
    border, contrast = max(s.border for s in own), min(s.contrast for s in own)
    print(f"  frame covered at most {border:.1%}; contrast {contrast:.2f} at least")
    largest = abs(coverage).max(), abs(aspect).max()
    print("  z-scores up to {:.1f} (coverage), {:.1f} (aspect)".format(*largest))


def _copies(images: list, standardised: list) -> None:
    hashes = np.stack([duplicates.perceptual_hash(image) for image in standardised])
    bits = np.unpackbits(hashes, axis=1).astype(np.float32)
    apart = bits @ (1 - bits).T
    apart = np.sort((apart + apart.T)[np.triu_indices(len(bits), 1)])
    print(
        f"  closest different images: {apart[:5].astype(int)} of {duplicates.BITS} bits apart, "
        f"of {len(apart)} pairs; {np.sum(apart <= duplicates.NEAR)} named"
    )
    for title, change in REENCODINGS.items():
        found, distance = [], []
        for image, own in zip(images, hashes, strict=True):
            copy, _, _ = to_canvas(change(image), size=SIDE, fit="stretch")
            other = duplicates.perceptual_hash(duplicates.standardise(copy))
            found.append(bool(duplicates.find_duplicates(np.stack([own, other]), ["a", "b"])))
            distance.append(np.bitwise_count(own ^ other).sum())
        usual, most = int(np.quantile(distance, 0.95)), max(distance)
        print(
            f"  {title}: {np.mean(found):.1%} found (95 % within {usual} bits, all within {most})"
        )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    for name in sys.argv[1:]:
        main(Path(name))
