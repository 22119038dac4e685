"""Pages of the repository's root as pages of the site, and links that work in both places.

A page `docs/project/NAME.md` stands for a file of the root: there its text is put in. Links between
pages are relative to the file, as a code host follows them, and are rewritten for the site here.
"""

import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

_DOCS = Path(__file__).parents[1]
_ROOT = _DOCS.parent
PAGES = {
    "README.md": "docs/project/readme.md",
    "MODEL_CARD.md": "docs/project/model_card.md",
    "CONTRIBUTING.md": "docs/project/contributing.md",
    "CHANGELOG.md": "docs/project/changelog.md",
    "SECURITY.md": "docs/project/security.md",
}
_LINK = re.compile(r'(\]\(|(?:src|href)=")(?!\w+:|#|/)([^)#"\s]+)')


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", _read_root_page)
    return {"parallel_read_safe": True}


def _read_root_page(app: Any, page: str, source: list[str]) -> None:
    path = f"docs/{page}.md"
    origin = next((root for root, stub in PAGES.items() if stub == path), path)
    if origin != path:
        source[0] = (_ROOT / origin).read_text()
        app.env.note_dependency(str(_ROOT / origin))

    def move(match: re.Match[str]) -> str:
        target = posixpath.normpath(PurePosixPath(origin).parent / match[2])
        return match[1] + posixpath.relpath(PAGES.get(target, target), posixpath.dirname(path))

    source[0] = _LINK.sub(move, source[0])
