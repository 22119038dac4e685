"""The simulated radiographs as a TFDS data set.

import tensorflow_datasets as tfds
import jaxlung.data.builders.phantom  # registers it
train = tfds.load("jaxlung_phantom", split="train")
"""

import inspect
from collections.abc import Iterator
from typing import Any

import jax
import tensorflow_datasets as tfds

from jaxlung.phantom import radiographs

SIZE = 256
SEED = 0
COUNTS = {"train": 512, "validation": 64, "test": 64}
_CHUNK = 64  # images generated at a time: 8 MiB


class JaxlungPhantom(tfds.core.GeneratorBasedBuilder):
    """Simulated chest radiographs with lung masks.

    Simulated frontal chest radiographs with the exact projected lung mask, rendered from analytic
    anatomy by a keyed JAX function. Example i of the whole set is a function of (seed 0, i) alone.
    Heart, mediastinum and the lung behind heart and diaphragm are not lung, as in the Montgomery
    and JSRT masks. For trying out code and for pre-training; not a substitute for radiographs.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=inspect.getdoc(self),
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(SIZE, SIZE, 1), encoding_format="png"),
                    # 0 background, 1 lung: small numbers, so that no viewer's palette is needed
                    "mask": tfds.features.Image(shape=(SIZE, SIZE, 1), encoding_format="png"),
                }
            ),
            supervised_keys=("image", "mask"),
            license="Apache-2.0",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        generators, start = {}, 0
        for name, count in COUNTS.items():
            generators[name] = self._generate_examples(start, count)
            start += count
        return generators

    def _generate_examples(self, start: int, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
        key = jax.random.key(SEED)
        for first in range(start, start + count, _CHUNK):
            n = min(_CHUNK, start + count - first)
            images_NxSxS, masks_NxSxS = radiographs(key, n, size=SIZE, start=first)
            for i in range(n):
                name = f"phantom_{SEED}_{first + i:05d}"
                image, mask = images_NxSxS[i][..., None], masks_NxSxS[i][..., None]
                yield name, {"id": name, "image": image, "mask": mask}
