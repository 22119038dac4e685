"""Recognises a run's own images by content, wherever they lie and whatever they are called now."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from jaxlung.config import DataConfig
from jaxlung.data.canvases import make_canvases
from jaxlung.data.duplicates import digest_canvas, find_copies
from jaxlung.data.splits import Split
from jaxlung.errors import InputError
from jaxlung.structures import LUNG
from jaxlung.system.digests import is_example_digest
from jaxlung.system.threads import count_cores
from jaxlung.workdir.record import Contents


def find_recorded(
    whole: Split,
    recorded: Mapping[str, str],
    config: DataConfig,
    outputs: Sequence[str] = (LUNG,),
) -> list[str]:
    """Finds the images of a folder that are those of a run's split.

    Images are compared by id and content first, and then, where some are missing, by content alone.
    Those of a large split are known by id and the size of their files.

    Args:
        whole: the folder's images.
        recorded: id to digest, of a split in the run's data.json.
        config: of the run's data.
        outputs: of the run's model.

    Returns:
        their ids in `whole`, in the order of `recorded`, without those that are missing.
    """
    canvases = make_canvases(whole, size=config.size, fit=config.fit, outputs=outputs, cache_gib=0)
    index_of = {image_id: i for i, image_id in enumerate(whole.ids)}

    def digest(i: int) -> str:
        text = recorded.get(whole.ids[i])
        try:
            if text and not is_example_digest(text):
                return whole.stat_of(i, outputs) if whole.stat else ""
            image_SxS, mask_SxSxC, _ = canvases.read(i)
            return digest_canvas(image_SxS, mask_SxSxC)
        except InputError:  # scoring names a damaged file when its turn comes
            return ""

    def digests(indices: Sequence[int]) -> dict[int, str]:
        with ThreadPoolExecutor(count_cores()) as pool:
            return dict(zip(indices, pool.map(digest, indices), strict=True))

    same_ids = digests([index_of[image_id] for image_id in recorded if image_id in index_of])
    found = {
        whole.ids[i]: whole.ids[i] for i, text in same_ids.items() if text == recorded[whole.ids[i]]
    }
    taken = set(found)  # files, which still have their names
    missing: dict[str, list[str]] = {}
    for image_id, text in recorded.items():
        if image_id not in found and is_example_digest(text):
            missing.setdefault(text, []).append(image_id)
    if missing:
        others = digests([i for i in range(len(whole.ids)) if i not in same_ids])
        for i, text in {**same_ids, **others}.items():
            if missing.get(text) and whole.ids[i] not in taken:
                found[missing[text].pop(0)] = whole.ids[i]
    return [found[image_id] for image_id in recorded if image_id in found]


def describe_seen(
    contents: Contents, source: str, digests: Sequence[str], hashes: Sequence[str]
) -> list[str]:
    """Warns of images that a run trained on, or used to choose its epoch.

    Args:
        contents: of the run.
        source: its train.init_from.
        digests: `digest_canvas` of each image that is scored.
        hashes: `hash_image` of each; "": not computed.
    """
    if not contents.digests:
        return ["the run has no data.json: images that it was trained on cannot be recognised"]
    warnings = []
    if source:
        warnings.append(
            f"training started from the parameters of {source}: images that those were trained on "
            f"are not recognised"
        )
    images = [digest.split(":")[0] for digest in digests]
    for name, verb in (("train", "trained on"), ("validation", "used to choose the epoch")):
        recorded = contents.digests.get(name, {})
        if not all(map(is_example_digest, recorded.values())):  # a large split: `check_canvases`
            warnings.append(
                f"the run knows its {len(recorded)} {name} images by their files alone: those that "
                f"were {verb} cannot be recognised by content"
            )
            continue
        seen = {digest.split(":")[0] for digest in recorded.values()}
        if count := sum(image in seen for image in images):
            warnings.append(f"{count} of these {len(images)} images were {verb}, by content")
        asked = [text for text, image in zip(hashes, images, strict=True) if image not in seen]
        known = [contents.hashes[i] for i in recorded if i in contents.hashes]
        if count := sum(find_copies([text for text in asked if text], known) >= 0):
            warnings.append(
                f"{count} of these {len(images)} images are changed copies (in size, encoding or "
                f"grey levels) of images that were {verb}, by perceptual hash"
            )
    return warnings
