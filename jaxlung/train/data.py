"""The data of a run, read and checked before training."""

from jaxlung.config import Config
from jaxlung.data.datasets import load_splits
from jaxlung.data.input_pipeline import Canvases, check_canvases, import_tensorflow, make_canvases
from jaxlung.errors import InputError
from jaxlung.workdir.record import Digests

_UNIT = {"xray": "images", "ct": "slices"}  # what an example is, in words


def prepare_data(config: Config) -> tuple[dict[str, Canvases], Digests]:
    """Reads and checks every example of every split.

    Returns:
        the splits at the network's size, by name, and each one's ids with their content digests.

    Raises:
        InputError: the first bad file or field, by name.
    """
    splits = load_splits(config.data)
    count, batch_size = len(splits["train"].ids), config.train.batch_size
    if count < batch_size:
        raise InputError(
            f"the train split has {count} {_UNIT[config.modality]}, fewer than "
            f"train.batch_size={batch_size}; lower train.batch_size or add some"
        )
    canvases, digests = {}, {}
    for name, split in splits.items():
        canvases[name] = make_canvases(
            split,
            size=config.data.size,
            fit=config.data.fit,
            cache_gib=config.data.cache_gib,
            # An X-ray's empty mask is nearly always a mistake, though a test set may hold one; of
            # a CT's slices many are without lung.
            reject_empty=name != "test" and config.modality == "xray",
        )
        resident = name == "train" and config.data.loader == "device"
        if resident and not canvases[name].cached:
            raise InputError(
                f"data.loader='device' keeps the {count} training examples on the device, which is "
                f"more than data.cache_gib={config.data.cache_gib:g}; raise it if they fit, or set "
                f"data.loader=auto"
            )
        # What lies on the device is read whole before training; of other large splits a sample.
        digests[name] = check_canvases(canvases[name], whole=resident)
        if not resident and canvases[name].loader(config.data.loader) == "tfdata":
            import_tensorflow()  # its absence is told before anything is written
    return canvases, digests
