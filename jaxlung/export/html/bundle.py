"""Puts ES modules together into one script, without Node.

Modules import names from files beside them, and do not rename them. So they can stand one after the
other in one scope, if no two of them give a name to different things; that is checked.
"""

import re
from pathlib import Path

_IMPORT = re.compile(r'^(?:import|export) \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let)\b)", re.MULTILINE)
_NAME = re.compile(
    r"^(?:async )?(?:function\*?|class|const|let) (?:(\w+)|([\[{][^=]*[\]}]) =)", re.MULTILINE
)


def bundle(folders: list[Path], first: str) -> str:
    """Returns a module and all that it imports as the text of one script.

    Args:
        folders: where modules lie; the first one that has a module counts.
        first: the module's name, without suffix.

    Raises:
        ValueError: a module is missing, has an import that is not understood, or two modules have
            a name in common.
    """
    texts: dict[str, str] = {}
    _add(folders, first, texts)
    owners: dict[str, str] = {}
    for module, text in texts.items():
        for name in _names(text):
            if name in owners:
                raise ValueError(f"{module}.js and {owners[name]}.js both have a {name}")
            owners[name] = module
    whole = "\n".join(texts.values())
    if "</script" in whole:
        raise ValueError(f"{first}.js: a script cannot hold </script")
    return f'(() => {{\n"use strict";\n{whole}}})();\n'


def _add(folders: list[Path], module: str, texts: dict[str, str]) -> None:
    if module in texts:
        return
    paths = [folder / f"{module}.js" for folder in folders]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ValueError(f"there is no {module}.js")
    text = path.read_text(encoding="utf-8")
    for match in _IMPORT.finditer(text):
        _add(folders, match[1], texts)
    text = _EXPORT.sub("", _IMPORT.sub("", text))
    if left := re.search(r"^(?:import|export)\b.*", text, re.MULTILINE):
        raise ValueError(f"{module}.js: {left[0]!r} is not understood")
    texts[module] = text


def _names(text: str) -> list[str]:
    names = []
    for name, pattern in _NAME.findall(text):
        names += [name] if name else re.findall(r"\w+", pattern)
    return names
