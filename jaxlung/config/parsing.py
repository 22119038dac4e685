"""From a filled-in ConfigDict, or the dict of a run's config.json, to a checked, frozen Config."""

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxlung.config.checks import check_combinations, fill_outputs
from jaxlung.config.settings import Config
from jaxlung.errors import InputError
from jaxlung.structures import is_structure_name

if TYPE_CHECKING:  # it takes a tenth of a second, which commands without recipes spare
    from ml_collections import ConfigDict


def default_config() -> "ConfigDict":
    """Returns the recipe as a ConfigDict, for a config file to change fields of.

    Example:
        >>> config = default_config()
        >>> config.optim.learning_rate = 1e-3
        >>> parse_config(config).optim.learning_rate
        0.001
    """
    from ml_collections import ConfigDict

    return ConfigDict(Config().to_dict())


def parse_config(values: "Mapping[str, Any] | ConfigDict | Config") -> Config:
    """Checks the name, type and range of every field, and what fields have to agree on.

    Args:
        values: sections, each with fields; a field that is left out has its default.

    Returns:
        the frozen config, with `model.outputs` filled in; an int given for a float is converted, a
        list for a tuple too.

    Raises:
        InputError: names the first field that is unknown, of the wrong type or out of range, or
            the fields that do not go together.

    Example:
        >>> parse_config({"model": {"width": 32}}).model.width
        32
        >>> parse_config({"model": {"width": 0}})
        Traceback (most recent call last):
        jaxlung.errors.InputError: model.width must be between 1 and 4096, got 0
    """
    if not isinstance(values, Mapping) and hasattr(values, "to_dict"):
        values = values.to_dict()
    if not isinstance(values, Mapping):
        raise InputError(f"config must hold sections, got {values!r}")
    section_types = {f.name: type(f.default) for f in dataclasses.fields(Config)}
    for name in values:
        if name not in section_types:
            raise InputError(f"config has no section {name!r}; it has {', '.join(section_types)}")
    sections: dict[str, Any] = {
        name: _parse_section(name, section_type, values.get(name, {}))
        for name, section_type in section_types.items()
    }
    config = fill_outputs(Config(**sections))
    check_combinations(config)
    return config


def _parse_section(name: str, section_type: Any, values: Mapping[str, Any]) -> Any:
    if not isinstance(values, Mapping):
        raise InputError(f"config section {name} must hold fields, got {values!r}")
    fields = {f.name: f for f in dataclasses.fields(section_type)}
    checked = {}
    for key, value in values.items():
        path = f"{name}.{key}"
        if key not in fields:
            raise InputError(f"config has no field {path}; {name} has {', '.join(fields)}")
        checked[key] = _check_value(path, fields[key], value)
    return section_type(**checked)


def _check_value(path: str, field: dataclasses.Field[Any], value: Any) -> Any:
    expected = type(field.default)
    if expected is tuple:
        check = _check_names if "structures" in field.metadata else _check_numbers
        return check(path, field, value)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        # Python converts no int above 1.8e308; 1e300 is out of every range as well.
        value = float(min(max(value, -(10**300)), 10**300))
    if type(value) is not expected:
        raise InputError(f"{path} must be of type {expected.__name__}, got {value!r}")
    if field.metadata.get("path"):
        return os.path.expanduser(str(value))  # a shell leaves the ~ of --config.data.dir=~/x
    if "structures" in field.metadata:
        return _check_name(path, str(value))
    choices = field.metadata.get("choices")
    if choices and value not in choices:
        options = " or ".join(repr(choice) for choice in choices)
        raise InputError(f"{path} must be {options}, got {value!r}")
    if "range" in field.metadata:
        low, high = field.metadata["range"]
        if not low <= value <= high:  # NaN included
            raise InputError(f"{path} must be between {low:g} and {high:g}, got {value!r}")
    return value


def _check_names(path: str, _: dataclasses.Field[Any], value: Any) -> tuple[str, ...]:
    """Checks the names of a tuple or list; a flag gives several as one text with commas."""
    texts = (value,) if isinstance(value, str) else value
    is_listed = isinstance(texts, tuple | list) and all(isinstance(text, str) for text in texts)
    if not is_listed:
        raise InputError(f"{path} must hold names, as in ('lung', 'heart'), got {value!r}")
    named = [name for text in texts for name in text.split(",")]
    for name in named:
        _check_name(path, name)
    if len(set(named)) < len(named):
        raise InputError(f"{path} names a structure twice: {', '.join(named)}")
    return tuple(named)


def _check_name(path: str, name: str) -> str:
    if not is_structure_name(name):
        raise InputError(
            f"{path} must be of lower-case letters, digits and underscores, got {name!r}"
        )
    return name


def _check_numbers(path: str, field: dataclasses.Field[Any], value: Any) -> tuple[float, ...]:
    """Checks each number of a tuple, or of the list that JSON has in its place."""
    if not isinstance(value, tuple | list):
        raise InputError(f"{path} must be of type tuple, as in (1.0, 2.0), got {value!r}")
    low, high = field.metadata["range"]
    for number in value:
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not low <= number <= high:
            raise InputError(
                f"{path} must hold numbers between {low:g} and {high:g}, got {number!r}"
            )
    return tuple(float(number) for number in value)
