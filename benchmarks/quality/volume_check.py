"""Measures what `jaxlung data check` finds in CT: python benchmarks/quality/volume_check.py DIR

It takes a folder with images/ and masks/ of volumes, and plants faults in every pair, one at a
time. It prints how many pairs are named for each, and for what.
"""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxlung.data.ct_folder import find_volumes
from jaxlung.data_check.volumes import weigh_pair
from jaxlung.io.ct.hounsfield import to_hounsfield
from jaxlung.io.ct.labels import read_label_volume
from jaxlung.io.volumes import Volume, read_volume


def move(axis: int, share: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda mask: np.roll(mask, round(share * mask.shape[axis]), axis)


MASKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nothing": lambda mask: mask,
    "mirrored left to right": lambda mask: mask[:, :, ::-1],
    "mirrored front to back": lambda mask: mask[:, ::-1],
    "upside down": lambda mask: mask[::-1],
    "rows and columns exchanged": lambda mask: mask.transpose(0, 2, 1),
    "moved by 3 % of the slices": move(0, 0.03),
    "moved by 2 % of the height": move(1, 0.02),
    "moved by 5 % of the height": move(1, 0.05),
    "moved by 2 % of the width": move(2, 0.02),
    "moved by 5 % of the width": move(2, 0.05),
}
AXES = {"axes Z and Y exchanged": (1, 0, 2), "Z and X": (2, 1, 0), "Y and X": (0, 2, 1)}


def main(directory: Path) -> None:
    named: dict[str, Counter[str]] = {name: Counter() for name in (*MASKS, *AXES)}
    for image, mask in find_volumes(directory).values():
        scan = to_hounsfield(read_volume(image), image)
        lung_ZxHxW = read_label_volume(mask).voxels_ZxHxW > 0
        for name, plant in MASKS.items():
            named[name].update(kinds(scan, plant(lung_ZxHxW)))
        for name, order in AXES.items():
            spacing = tuple(scan.spacing[axis] for axis in order)
            turned = scan._replace(voxels_ZxHxW=scan.voxels_ZxHxW.transpose(order), spacing=spacing)
            named[name].update(kinds(turned, lung_ZxHxW.transpose(order)))
    print(f"{directory}: {len(find_volumes(directory))} pairs")
    for name, counts in named.items():
        found = ", ".join(f"{kind} {count}" for kind, count in counts.most_common())
        print(f"  {name:28} {found or '-'}")


def kinds(scan: Volume, lung_ZxHxW: np.ndarray) -> list[str]:
    weighed = weigh_pair(scan, np.ascontiguousarray(lung_ZxHxW))
    return [kind for kind, (evidence, _) in weighed.items() if evidence >= 1]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
