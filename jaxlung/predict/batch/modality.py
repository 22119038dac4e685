"""Tells scans from X-rays and other pictures among what the paths of a batch lead to."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jaxlung.errors import InputError
from jaxlung.io.dicom.signature import is_dicom, read_start, starts_ct
from jaxlung.io.passed_over import is_hidden
from jaxlung.io.volumes import SUFFIXES
from jaxlung.predict.batch.sources import Source, find_sources


def find_images_and_volumes(
    paths: Sequence[Path], *, but_not: Path | None = None, passed_over: Counter[str] | None = None
) -> list[Source]:
    """Finds every image and every scan that the paths lead to, once.

    A scan is a NIfTI, MetaImage or NRRD file, a folder of DICOM files whose Modality is CT, or such
    a file of several slices. All else is an image. An archive holds images; only one without any
    is searched for scans.

    Args:
        but_not, passed_over: as for `find_sources`.

    Raises: as `find_sources`.
    """
    found: dict[tuple[Path, str], Source] = {}
    aside = Counter[str]()
    for path in paths:
        for source in _at(path, but_not, aside):
            found[source.path, source.member] = source
    if passed_over is not None:
        passed_over.update(aside)
    return list(found.values())


def _at(path: Path, but_not: Path | None, aside: Counter[str]) -> list[Source]:
    images_aside, volumes_aside = Counter[str](), Counter[str]()
    images, volumes = list[Source](), list[Source]()
    try:
        images = find_sources([path], volumes=False, but_not=but_not, passed_over=images_aside)
    except InputError as error:
        try:
            return find_sources([path], volumes=True, but_not=but_not, passed_over=aside)
        except InputError:
            raise error from None
    if not path.is_file():
        try:
            volumes = find_sources([path], volumes=True, but_not=but_not, passed_over=volumes_aside)
        except InputError:  # there are images alone
            volumes_aside = images_aside
    elif path.name.lower().endswith(SUFFIXES) or _is_ct(path):
        return find_sources([path], volumes=True, but_not=but_not, passed_over=aside)
    volumes = [source for source in volumes if _is_scan(source)]
    series = {source.path for source in volumes}
    images = [one for one in images if one.path.parent not in series and one.path not in series]
    # What one search passes over the other may have found.
    aside.update(images_aside & volumes_aside)
    return images + volumes


def _is_scan(source: Source) -> bool:
    path = source.path
    if not path.is_dir():
        return path.name.lower().endswith(SUFFIXES) or _is_ct(path)
    return any(_is_ct(file) for file in sorted(path.iterdir()) if not is_hidden(file.name))


def _is_ct(file: Path) -> bool:
    return is_dicom(file) and starts_ct(read_start(file))
