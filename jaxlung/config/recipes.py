"""Recipes: the files of configs/, which a wheel holds as jaxlung/configs/, and a user's own."""

import runpy
from pathlib import Path
from typing import TYPE_CHECKING

from jaxlung.errors import InputError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

_IN_WHEEL, _IN_CLONE = Path(__file__).parents[1] / "configs", Path(__file__).parents[2] / "configs"
_RECIPES = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CLONE


def list_recipes() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return sorted(path.stem for path in _RECIPES.glob("*.py"))


def load_recipe(recipe: str | Path) -> "ConfigDict":
    """Returns what `get_config()` of a recipe returns.

    A recipe that starts from another one calls this too: it finds it wherever the file lies. A name
    is always that of the package's recipe, though a file of that name lies beside the caller's.

    Args:
        recipe: a name, as "cxr"; or the path of a Python file.

    Raises:
        InputError: there is no such recipe, or its file fails.

    Example:
        >>> load_recipe("cxr").train.num_epochs
        60
    """
    from ml_collections import ConfigDict

    path = _RECIPES / f"{recipe}.py" if recipe in list_recipes() else Path(recipe).expanduser()
    if not path.is_file():
        raise InputError(
            f"{recipe}: no such recipe; name one of {', '.join(list_recipes())}, or a Python file"
        )
    try:
        return ConfigDict(runpy.run_path(str(path))["get_config"]())
    except Exception as error:  # the file may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        if isinstance(error, KeyError):
            reason = f"{reason} is missing"
        raise InputError(f"{path}: {reason}; a recipe has get_config(), see {_RECIPES}") from error
