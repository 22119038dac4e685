"""The data of a run, read and checked before anything is written."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxlung.config import Config
from jaxlung.data.canvases import Canvas, Canvases, check_canvases, make_canvases
from jaxlung.data.ct_folder import is_read
from jaxlung.data.datasets import load_splits
from jaxlung.data.folder import check_others, count_passed_over
from jaxlung.data.splits import Split
from jaxlung.devices.distributed import is_main
from jaxlung.errors import InputError
from jaxlung.io.images import is_image
from jaxlung.io.passed_over import count_in_words
from jaxlung.system.digests import is_example_digest
from jaxlung.system.silence import import_tensorflow
from jaxlung.train.data_warnings import find_warnings
from jaxlung.workdir.record import Contents

UNIT = {"xray": "images", "ct": "slices"}  # what an example is, in words


class Data(NamedTuple):
    """The splits at the network's size, by name, and what is known of their images."""

    canvases: dict[str, Canvases]
    contents: Contents
    warnings: Sequence[str]  # what is odd about the splits


def prepare_data(config: Config) -> Data:
    """Reads and checks every example of every split; of very large splits a sample.

    Raises:
        InputError: the first bad file or field, by name.
    """

    def make(split: Split) -> Canvases:
        return make_canvases(
            split,
            size=config.data.size,
            fit=config.data.fit,
            outputs=config.model.outputs,
            cache_gib=config.data.cache_gib,
            # An X-ray's empty mask is nearly always a mistake, though a test set may hold one. Of
            # a CT's slices many are without lung.
            reject_empty=split.name != "test" and config.modality == "xray",
            # Neighbouring slices look alike, and so do phantoms.
            hashed=config.modality == "xray" and config.data.name != "phantom",
        )

    splits = load_splits(config.data)
    if config.data.name == "folder":
        unread = check_others(Path(config.data.dir), config.model.outputs)
        if unread and is_main():
            print(
                f"{config.data.dir}: {', '.join(unread)} passed over, as model.outputs="
                f"{config.model.outputs} names no such structure"
            )
    if config.data.name in ("folder", "ct") and is_main():
        belongs = is_read if config.data.name == "ct" else is_image
        if words := count_in_words(count_passed_over(Path(config.data.dir), belongs)):
            print(f"{config.data.dir}: {words}")
    return _prepare(config, splits, make)


def prepare_members(configs: Sequence[Config]) -> list[Data]:
    """Prepares the data of each member of an ensemble; each example is read and kept once.

    Members with the same settings of data share all. Folds divide the same examples otherwise, and
    each warns of what no earlier one has.

    Raises:
        InputError: see `prepare_data`.
    """
    first = prepare_data(configs[0])
    place = {
        image_id: (canvases, i)
        for canvases in first.canvases.values()
        for i, image_id in enumerate(canvases.split.ids)
    }
    cached = all(canvases.cached for canvases in first.canvases.values())
    outputs = configs[0].model.outputs

    def share(split: Split) -> Canvases:
        places = [place[image_id] for image_id in split.ids]

        def read(index: int) -> Canvas:
            canvases, i = places[index]
            return canvases.read(i)

        hashes = first.contents.hashes
        own = {i: hashes[i] for i in split.ids if i in hashes}
        return Canvases(split, configs[0].data.size, outputs, read, cached, own)

    # Of a large split the digests name files: its examples are read where another split is not.
    known = {
        image_id: digest
        for digests in first.contents.digests.values()
        for image_id, digest in digests.items()
        if is_example_digest(digest)
    }
    members, said = [], set(first.warnings)
    for config in configs:
        data = first
        if config.data != configs[0].data:
            data = _prepare(config, load_splits(config.data), share, known)
            data = data._replace(warnings=[text for text in data.warnings if text not in said])
            said.update(data.warnings)
        members.append(data)
    return members


def _prepare(
    config: Config,
    splits: Mapping[str, Split],
    make: Callable[[Split], Canvases],
    known: Mapping[str, str] | None = None,
) -> Data:
    count, batch_size = len(splits["train"].ids), config.train.batch_size
    if count < batch_size:
        raise InputError(
            f"the train split has {count} {UNIT[config.modality]}, fewer than "
            f"train.batch_size={batch_size}; lower train.batch_size or add some"
        )
    train = splits["train"]
    taught = {structure for i in range(count) for structure in train.labels_of(i)}
    for output in config.model.outputs:
        if output not in taught:
            raise InputError(
                f"model.outputs: no training image labels {output!r}; they mark "
                f"{', '.join(sorted(taught))}"
            )
    canvases: dict[str, Canvases] = {}
    digests: dict[str, dict[str, str]] = {}
    for name, split in splits.items():
        canvases[name] = make(split)
        resident = name == "train" and config.data.loader == "device"
        if resident and not canvases[name].cached:
            raise InputError(
                f"data.loader='device' keeps the {count} training examples on the device, which is "
                f"more than data.cache_gib={config.data.cache_gib:g}; raise it if they fit, or set "
                f"data.loader=auto"
            )
        # What lies on the device is read whole before training; of other large splits a sample.
        digests[name] = check_canvases(canvases[name], whole=resident, known=known)
        if not resident and canvases[name].loader(config.data.loader) == "tfdata":
            import_tensorflow()  # its absence ends the run before anything is written
    hashes = {i: text for one in canvases.values() for i, text in (one.hashes or {}).items()}
    contents = Contents(digests, hashes)
    return Data(canvases, contents, find_warnings(config, splits, contents))
