"""HTML reports: the folder that they are written to, their templates, and pictures inside them."""

import base64
import importlib.resources
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

from jaxlung.errors import InputError
from jaxlung.system.files import check_out


def make_report_folder(out: Path, names: Sequence[str], *, overwrite: bool) -> None:
    """Makes the folder for a report, before long work starts.

    Args:
        out: the folder.
        names: the files that the report will have.
        overwrite: allow files of these names to be there already.

    Raises:
        InputError: it holds a report already, cannot be written to, or is a file.
    """
    check_out(out)
    for name in names:
        if (out / name).exists() and not overwrite:
            raise InputError(f"{out / name} exists; pass --overwrite, or name another --out folder")
    out.mkdir(parents=True, exist_ok=True)
    probe = out / ".writable"
    probe.touch()  # what a network drive allows shows only here: an OSError that names the file
    probe.unlink()


def render_page(
    package: str,
    template: str,
    filters: Mapping[str, Callable[..., str]] | None = None,
    **values: Any,
) -> str:
    """Fills a template of a package. Every value is escaped, and an unknown name is an error."""
    source = importlib.resources.files(package).joinpath(template).read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(filters or {})
    return environment.from_string(source).render(values)


def encode_picture(picture_HxWx3: np.ndarray, name: str) -> dict[str, Any]:
    """Encodes a picture for a page.

    Args:
        picture_HxWx3: RGB uint8 [H, W, 3].
        name: of the image, for the text of an error.

    Returns:
        address: a data URL of a JPEG of quality 85.
        height, width: in pixels.
    """
    done, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(picture_HxWx3[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 85]
    )
    if not done:
        raise RuntimeError(f"{name}: OpenCV cannot write JPEG")
    return {
        "address": "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode(),
        "height": picture_HxWx3.shape[0],
        "width": picture_HxWx3.shape[1],
    }
