"""Does the input keep up? python benchmarks/speed/input_pipeline.py DIR

DIR holds images/ and masks/. Prints images a second of the input alone, from files (decoding,
canvas, digest) and from the cache by either loader; of the training step of configs/unet.py on
batches of that size; and the share of augmentation in that step.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

# As a script, Python looks for modules in benchmarks/ alone.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from jaxlung.system.start import keep_freed_memory, use_cores  # noqa: E402

BATCH, BATCHES = 16, 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    keep_freed_memory()
    use_cores(BATCH)

    from benchmarks.speed.peers import jaxlung_unet
    from benchmarks.speed.peers.contender import Spec
    from jaxlung.data.canvases import check_canvases, make_canvases
    from jaxlung.data.folder import load_folder
    from jaxlung.data.input_pipeline import batches, train_indices

    split = load_folder(arguments.directory)
    start = time.perf_counter()
    canvases = make_canvases(split, size=256, fit="letterbox")
    check_canvases(canvases)
    print(f"from files: {len(split.ids) / (time.perf_counter() - start):.0f} images/s")
    for loader in ("memory", "tfdata"):
        stream = batches(canvases, train_indices(0, 0, len(split.ids), BATCH), loader=loader)
        next(stream)
        start = time.perf_counter()
        for _ in itertools.islice(stream, BATCHES):
            pass
        rate = BATCH * BATCHES / (time.perf_counter() - start)
        stream.close()
        print(f"from the cache, {loader}: {rate:.0f} images/s")
    contender = jaxlung_unet.build(Spec(patch=2, batch=BATCH), "")
    figures = contender.extra()
    print(
        f"training step: {figures['train_augmented']:.1f} images/s, "
        f"augmentation {figures['augment_share']:.1%} of it"
    )


if __name__ == "__main__":
    main()
