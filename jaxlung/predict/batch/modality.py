"""Tells scans from X-rays and other pictures among what the paths of a batch lead to."""

import contextlib
import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

from jaxlung.errors import InputError
from jaxlung.io.dicom.series import name_aside
from jaxlung.io.dicom.signature import is_dicom, read_start, starts_ct, starts_dicom
from jaxlung.io.images import may_be_dicom
from jaxlung.io.volumes import SUFFIXES
from jaxlung.predict.batch.archives import list_members, open_archive, read_member_start
from jaxlung.predict.batch.sources import Source, find_sources

# By which `name_kind` counts the files of scans where images are searched for.
_ENDS = {PurePath(f"scan{suffix}").suffix for suffix in SUFFIXES}


def find_images_and_volumes(
    paths: Sequence[Path], *, but_not: Path | None = None, passed_over: Counter[str] | None = None
) -> list[Source]:
    """Finds every image and every scan that the paths lead to, once.

    A scan is a NIfTI, MetaImage or NRRD file, a folder with DICOM files whose Modality is CT, or
    such a file that is named itself. All else is an image, also beside the slices of a series.

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
    if path.is_file() and path.suffix.lower() != ".zip":
        is_scan = path.name.lower().endswith(SUFFIXES) or _is_ct(path)
        return find_sources([path], volumes=is_scan, but_not=but_not, passed_over=aside)
    images_aside, volumes_aside = Counter[str](), Counter[str]()
    try:
        images = find_sources([path], volumes=False, but_not=but_not, passed_over=images_aside)
    except InputError as error:
        try:
            return find_sources([path], volumes=True, but_not=but_not, passed_over=aside)
        except InputError:
            raise error from None
    slices = [source for source in images if _is_slice(source)]
    volumes = None
    if slices or _ENDS & images_aside.keys():  # else there is no scan to find
        with contextlib.suppress(InputError):  # nor is there, by a closer look
            volumes = find_sources([path], volumes=True, but_not=but_not, passed_over=volumes_aside)
    if volumes is None:
        aside.update(images_aside)
        return images
    scans = [source for source in volumes if _is_scan(source)]
    # What one search passes over the other may have found.
    aside.update(images_aside & volumes_aside)
    if not scans:
        return images
    aside.update(filter(None, map(_name_aside, slices)))
    of_scans = {(source.path, source.member) for source in slices}
    return [*(one for one in images if (one.path, one.member) not in of_scans), *scans]


def _name_aside(source: Source) -> str:
    """Names what lies among slices and is none, a localizer say; "" of a slice."""
    if source.member:
        archive = open_archive(source.path)
        start = read_member_start(archive, source.member)
        return name_aside(start, functools.partial(archive.open, source.member))
    return name_aside(read_start(source.path), functools.partial(open, source.path, "rb"))


def _is_scan(source: Source) -> bool:
    """Says whether what the search for volumes has found is one, and no X-rays."""
    path, member = source.path, source.member
    if (member or path.name).lower().endswith(SUFFIXES):
        return True
    if member:
        archive = open_archive(path)
        return any(
            starts_ct(read_member_start(archive, name)) for name in list_members(archive, member)
        )
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return any(map(_is_ct, files))


def _is_ct(file: Path) -> bool:
    return is_dicom(file) and starts_ct(read_start(file))


def _is_slice(source: Source) -> bool:
    """Says whether an image is a slice of a series, which is found as a whole."""
    name = source.member or source.path.name
    if not may_be_dicom(name):
        return False
    if source.member:
        start = read_member_start(open_archive(source.path), source.member)
    else:
        start = read_start(source.path)
    return starts_dicom(start, name) and starts_ct(start)
