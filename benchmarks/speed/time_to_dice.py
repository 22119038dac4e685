"""From the command to a Dice: python benchmarks/speed/time_to_dice.py DIR [--contender keras]

DIR holds images/ and masks/. The split is configs/unet.py's, and so are the 256x256 canvases and
the score: per-image Dice at a threshold of 0.5, averaged over the validation images.

jaxlung: train.py with configs/unet.py in a process of its own, with an empty compilation cache.
keras: the recipe that jaxlung grew from, as a Keras user writes it: classic U-Net, 16 wide, batch
norm, Conv2DTranspose, sigmoid; Dice loss, batch 16, Adam at 1e-3; rotation by up to 15 degrees,
flip and contrast by tf.data and Keras's layers.
Both from a cold start, imports, reading of files and compilation included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # as a script, Python looks for modules in benchmarks/ alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--contender", choices=("jaxlung", "keras"), default="jaxlung")
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument("--limit-minutes", type=float, default=30)
    arguments = parser.parse_args()
    start = time.monotonic()
    validations = jaxlung if arguments.contender == "jaxlung" else keras
    epochs = 0
    for dice in validations(arguments.directory):
        seconds, epochs = time.monotonic() - start, epochs + 1
        print(f"{arguments.contender}: {seconds:.0f} s, epoch {epochs}: {dice:.4f}", flush=True)
        if dice >= arguments.target:
            print(f"{arguments.contender}: Dice {arguments.target} after {seconds:.0f} s")
            return
        if seconds > 60 * arguments.limit_minutes:
            break
    print(f"{arguments.contender}: Dice {arguments.target} not reached; stopped")


def jaxlung(directory: Path) -> Iterator[float]:
    with tempfile.TemporaryDirectory() as temporary:
        workdir = Path(temporary) / "run"
        command = [
            sys.executable,
            "train.py",
            "--config",
            "configs/unet.py",
            "--config.data.name=folder",
            f"--config.data.dir={directory.resolve()}",
            f"--workdir={workdir}",
        ]
        environment = {**os.environ, "XDG_CACHE_HOME": temporary}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # which would go before
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                yield from _follow(process, workdir / "metrics.jsonl")
            finally:
                process.kill()


def _follow(process: subprocess.Popen[bytes], log: Path) -> Iterator[float]:
    seen = 0
    while process.poll() is None:
        time.sleep(0.2)
        whole = log.read_text().split("\n")[:-1] if log.exists() else []
        for line in whole[seen:]:
            yield json.loads(line)["validation_dice"]
        seen = len(whole)
    sys.exit(f"train.py ended with {process.returncode}")


def keras(directory: Path) -> Iterator[float]:
    from benchmarks.speed.peers import keras_unet
    from benchmarks.speed.peers.contender import Spec
    from configs.unet import get_config
    from jaxlung.config import parse_config
    from jaxlung.data.canvases import check_canvases, make_canvases
    from jaxlung.data.datasets import load_splits

    settings = get_config()
    settings.data.update({"name": "folder", "dir": str(directory)})
    config = parse_config(settings)
    arrays = {}
    for name in ("train", "validation"):
        split = load_splits(config.data)[name]
        canvases = make_canvases(split, size=config.data.size, fit=config.data.fit)
        check_canvases(canvases)
        pairs = [canvases.read(i) for i in range(len(split.ids))]
        images, masks, _ = zip(*pairs, strict=True)
        arrays[name] = np.stack(images)[..., None], np.stack(masks)

    import tensorflow as tf
    from keras import layers, optimizers

    turn = layers.Pipeline(
        [
            layers.RandomRotation(15 / 360, "constant", seed=0),
            layers.RandomFlip("horizontal", seed=0),
        ]
    )
    contrast = layers.RandomContrast(0.4, value_range=(0, 1), seed=0)

    def augment(image, mask):
        image, mask = tf.cast(image, tf.float32) / 255, tf.cast(mask, tf.float32)
        both = turn(tf.concat([image, mask], -1), training=True)
        return contrast(both[..., :1], training=True), tf.round(both[..., 1:])

    train = tf.data.Dataset.from_tensor_slices(arrays["train"]).cache().shuffle(1000, seed=0)
    train = train.batch(16, drop_remainder=True).map(augment, tf.data.AUTOTUNE).prefetch(2)
    model = keras_unet.keras_unet(Spec(), norm="batch")
    model.compile(optimizers.Adam(1e-3), keras_unet.dice_loss)
    images, truth = arrays["validation"][0].astype(np.float32) / 255, arrays["validation"][1] > 0
    for _ in range(50):
        model.fit(train, epochs=1, verbose=0)
        found = model.predict(images, batch_size=16, verbose=0) >= 0.5
        axes = (1, 2, 3)
        both = (found & truth).sum(axes)
        yield float((2 * both / (found.sum(axes) + truth.sum(axes))).mean())


if __name__ == "__main__":
    main()
