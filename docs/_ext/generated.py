"""Replaces `<!-- generated: NAME -->` in a page by Markdown that is made from the code."""

import argparse
import dataclasses
import importlib
import pkgutil
import re
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

import jaxlung
from jaxlung.cli.main import make_parser
from jaxlung.config import Config, list_recipes, load_recipe

# Rooms of pure functions and of what a researcher imports; the others serve the commands.
_ROOMS = (
    "augmentation catalog config data.datasets errors losses masks metrics model optimizer phantom "
    "predict.slices predict.volumes preprocess forward steps structures"
).split()


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", _fill_in)
    app.connect("autodoc-process-signature", _shorten)
    return {"parallel_read_safe": True}


def _fill_in(app: Any, page: str, source: list[str]) -> None:
    makers = {
        "commands": list_commands,
        "settings": list_settings,
        "recipes": list_recipes_changes,
        "names": list_names,
        "modules": list_modules,
    }
    source[0] = re.sub(
        r"^<!-- generated: (\w+) -->$",
        lambda match: makers[match[1]](),
        source[0],
        flags=re.MULTILINE,
    )


def _shorten(app: Any, kind: str, name: str, value: Any, options: Any, *texts: Any) -> Any:
    """Leaves out the fields of a config that is another's default: settings.md lists them."""
    arguments, result = texts
    if not arguments:  # of an attribute
        return None
    return re.sub(r"(\w+Config)\((?:[^()]|\(\))*\)", r"\1()", arguments), result


def list_commands() -> str:
    """Returns a section for each command: its usage, what it does, its flags."""
    sections = []
    for parser in _walk(make_parser()):
        rows = [_describe(parser, action) for action in parser._actions if action.dest != "help"]
        epilog = (parser.epilog or "").split("\nsettings, as")[0]
        sections += [
            f"## {parser.prog}",
            f"```\n{_usage(parser)}\n```",
            _escape(parser.description or ""),
            _table(("argument", "meaning"), rows),
            f"```\n{epilog.strip()}\n```" if epilog else "",
        ]
    return "\n\n".join(sections)


def _walk(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yields the commands that do something: those without commands below them."""
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for command in action.choices.values():
            yield from _walk(command)


def _usage(parser: argparse.ArgumentParser) -> str:
    """Returns the usage in lines that a page holds, with each argument beside its value."""
    usage = re.sub(r"\s+", " ", parser.format_usage().removeprefix("usage: ")).strip()
    usage = re.sub(r"\[[^]]*\]", lambda part: part[0].replace(" ", "\N{NO-BREAK SPACE}"), usage)
    lines = textwrap.wrap(usage, 76, subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")


def _describe(parser: argparse.ArgumentParser, action: argparse.Action) -> tuple[str, str]:
    name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    if action.option_strings and action.nargs != 0:
        values = ",".join(map(str, action.choices)) if action.choices else ""
        name += f" {action.metavar or (f'{{{values}}}' if values else action.dest.upper())}"
    return f"`{name}`", _escape((action.help or "") % {**vars(action), "prog": parser.prog})


def list_settings() -> str:
    """Returns a section for each part of the config: every field with its default and values."""
    sections = []
    for section, values in vars(Config()).items():
        types = typing.get_type_hints(type(values))
        rows = [
            (
                f"`{section}.{field.name}`",
                f"`{field.default!r}`",
                _values(types[field.name], dict(field.metadata)),
                _escape(field.metadata["help"]),
            )
            for field in dataclasses.fields(values)
        ]
        sections += [
            f"## {section}",
            _escape(type(values).__doc__ or ""),
            _table(("setting", "default", "values", "meaning"), rows),
        ]
    return "\n\n".join(sections)


def _values(kind: Any, limits: dict[str, Any]) -> str:
    """Says what a field may hold."""
    if "range" in limits:
        many = typing.get_origin(kind) is tuple
        number = typing.get_args(kind)[0] if many else kind
        kind_of_number = "whole number" if number is int else "number"
        low, high = (int(end) if end == int(end) else end for end in limits["range"])
        return f"{kind_of_number}{'s' if many else ''} from {low} to {high}"
    if "choices" in limits:
        return ", ".join(f"`{choice!r}`" for choice in limits["choices"])
    if "structures" in limits:
        return "names of structures" if typing.get_origin(kind) is tuple else "a structure's name"
    return "a path" if "path" in limits else "`False`, `True`" if kind is bool else "text"


def list_recipes_changes() -> str:
    """Returns a table: what each recipe sets otherwise than by default."""
    default, rows = Config().to_dict(), []
    for name in list_recipes():
        recipe = load_recipe(name).to_dict()
        changes = [
            f"`{section}.{field}={value!r}`"
            for section, values in recipe.items()
            for field, value in values.items()
            if value != default[section][field]
        ]
        rows.append((f"`{name}`", ", ".join(changes) or "nothing"))
    return _table(("recipe", "sets"), rows)


def list_names() -> str:
    """Returns the documentation of each name of `jaxlung.__all__`, by the module it comes from."""
    parts = []
    for module, names in jaxlung._NAMES.items():
        parts.append(f"## From jaxlung.{module}")
        for name in names:
            kind = "class" if isinstance(getattr(jaxlung, name), type) else "function"
            options = "\n   :members:" if kind == "class" else ""
            parts.append(_rst(f".. auto{kind}:: jaxlung.{name}{options}"))
    return "\n\n".join(parts)


def list_modules() -> str:
    """Returns the documentation of each module of the rooms that other code imports."""
    parts = []
    for room in _ROOMS:
        module = importlib.import_module(f"jaxlung.{room}")
        below = pkgutil.iter_modules(getattr(module, "__path__", []), f"{module.__name__}.")
        leaves = [name for _, name, _ in below] or [module.__name__]
        if hasattr(module, "__path__"):
            parts.append(f"## {module.__name__}\n\n{_escape(module.__doc__ or '')}")
        for name in leaves:
            heading = "###" if hasattr(module, "__path__") else "##"
            parts.append(f"{heading} {name}\n\n{_rst(f'.. automodule:: {name}{_MEMBERS}')}")
    return "\n\n".join(parts)


_MEMBERS = "\n   :members:\n   :no-index:"


def _rst(text: str) -> str:
    return f"```{{eval-rst}}\n{text}\n```"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    cells = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _escape(text: str) -> str:
    """Returns text of the code as Markdown: signs as they are, names of pages as links."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"([*<>\[\]])", r"\\\1", part) for part in parts[::2]]
    return re.sub(r"docs/([\w/]+\.md)", r"[\g<0>](../\1)", "".join(parts))
