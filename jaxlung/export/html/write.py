"""Writes a page that finds lungs in films by itself: one file, or a folder for a web site."""

import base64
import hashlib
import json
import shutil
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from jaxlung import screen
from jaxlung.errors import InputError
from jaxlung.export.exported import Exported
from jaxlung.export.html.bundle import bundle
from jaxlung.export.html.model import describe_model
from jaxlung.export.html.numpy_engine import compare_plan
from jaxlung.io.page import render_page
from jaxlung.system.files import write_whole

_HERE = Path(__file__).parent
_SCREEN = Path(screen.__file__).parent
_PACKAGE = "jaxlung.export.html"
TOLERANCE = 1e-4  # of a probability


class _Parts(NamedTuple):
    """What a page consists of."""

    about: dict[str, Any]
    style: str
    app: str
    worker: str
    arrays: bytes
    code: bytes
    decoders: bytes


def write_html(exported: Exported, out: Path) -> str:
    """Writes one file, which a double click opens; whole or not at all.

    Returns:
        How its network was checked, in words.

    Raises:
        InputError: the model is of CT, or its network has what the page's engine has not.
    """
    parts, found = _make_parts(exported)
    data = [_script("application/json", "about", _json(parts.about))]
    for name in ("arrays", "code", "decoders"):
        text = base64.b64encode(getattr(parts, name)).decode()
        data.append(_script("text/plain", name, text))
    data.append(_script("text/plain", "worker", parts.worker))
    policy = [
        "default-src 'none'",
        f"script-src {_hash(parts.app)} blob: 'wasm-unsafe-eval'",
        f"style-src {_hash(parts.style)}",
        *("img-src data: blob:", "worker-src blob:", "form-action 'none'", "base-uri 'none'"),
    ]
    page = render_page(
        _PACKAGE,
        "page/index.html.j2",
        about=parts.about,
        policy="; ".join(policy),
        style=Markup(f"<style>{parts.style}</style>"),
        data=Markup("\n".join(data)),
        script=Markup(f"<script>{parts.app}</script>"),
    )
    with write_whole(out) as partial:
        partial.write_text(page, encoding="utf-8")
    return found


def write_site(exported: Exported, out: Path) -> str:
    """Writes the same page as a folder of files, for a web server.

    The folder appears whole, in the place of one that is there: never the page of one model with
    the weights of another.

    Returns and Raises: as `write_html`.
    """
    parts, found = _make_parts(exported)
    names = {
        "worker": "worker.js",
        "arrays": "model.bin",
        "code": "engine.wasm",
        "decoders": "decoders.bin",
    }
    about = {**parts.about, "parts": names}
    policy = [
        "default-src 'none'",
        *("script-src 'self' blob: 'wasm-unsafe-eval'", "style-src 'self'", "connect-src 'self'"),
        *("img-src data: blob:", "worker-src 'self'", "form-action 'none'", "base-uri 'none'"),
    ]
    page = render_page(
        _PACKAGE,
        "page/index.html.j2",
        about=about,
        policy="; ".join(policy),
        style=Markup('<link rel="stylesheet" href="page.css">'),
        data=_script("application/json", "about", _json(about)),
        script=Markup('<script src="page.js"></script>'),
    )
    files = {
        "index.html": page.encode(),
        "page.css": parts.style.encode(),
        "page.js": parts.app.encode(),
        "worker.js": parts.worker.encode(),
        "model.bin": parts.arrays,
        "engine.wasm": parts.code,
        "decoders.bin": parts.decoders,
        "LICENSES.txt": (_HERE / "vendor" / "LICENSES").read_bytes(),
    }
    place = out.resolve()
    partial, old = (place.with_name(f".{place.name}.{end}") for end in ("partial", "old"))
    for folder in (partial, old):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        partial.mkdir()
        for name, data in files.items():
            (partial / name).write_bytes(data)
        if place.exists():
            place.rename(old)
        partial.rename(place)
    finally:
        if old.exists() and not place.exists():
            old.rename(place)
        for folder in (partial, old):
            shutil.rmtree(folder, ignore_errors=True)
    return found


def _make_parts(exported: Exported) -> tuple[_Parts, str]:
    model = describe_model(exported)
    difference = compare_plan(exported, model.plan, TOLERANCE)
    decoders = (_HERE / "vendor" / "codecs.js").read_bytes()
    about = {**model.about, "sizes": {"arrays": len(model.arrays), "decoders": len(decoders)}}
    parts = _Parts(
        about=about,
        style=_read(_SCREEN / "look.css") + _read(_HERE / "page" / "page.css"),
        app=bundle([_HERE / "page", _SCREEN], "app"),
        worker=bundle([_HERE / "worker"], "worker"),
        arrays=zlib.compress(model.arrays, 9),
        code=(_HERE / "engine" / "engine.wasm").read_bytes(),
        decoders=zlib.compress(decoders, 9),
    )
    return parts, f"its network on phantoms within {difference:.0e} of JAX"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); install jaxlung anew") from error


def _json(values: Any) -> str:
    # No word of a model's name can end the script.
    return json.dumps(values).replace("<", "\\u003c")


def _script(kind: str, name: str, text: str) -> Markup:
    return Markup(f'<script type="{kind}" id="{name}">{text}</script>')


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
