"""Every setting of a run, with its default, its meaning and its valid range.

The dataclasses are the single definition. `default_config()` gives the same fields as an
`ml_collections.ConfigDict` for config files and flags; `parse_config()` turns a filled-in
ConfigDict (or the dict read back from a run's config.json) into a checked, frozen `Config`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxlung.config.checks import check_combinations
from jaxlung.config.ranges import CHOICES, RANGES, RANGES_OF_EACH
from jaxlung.config.settings import Config
from jaxlung.errors import InputError


def default_config() -> ConfigDict:
    """The recipe's ConfigDict, for a config file to change fields of."""
    return ConfigDict(Config().to_dict())


def parse_config(values: Mapping[str, Any] | ConfigDict | Config) -> Config:
    """Checks every field's name, type and range.

    Raises:
        InputError: naming the first field that is unknown, of the wrong type or out of range.
    """
    if isinstance(values, Config):
        values = values.to_dict()
    if isinstance(values, ConfigDict):
        values = values.to_dict()
    if not isinstance(values, Mapping):
        raise InputError(f"config must hold sections, got {values!r}")
    sections: dict[str, Any] = {}
    section_types = {f.name: type(f.default) for f in dataclasses.fields(Config)}
    for name in values:
        if name not in section_types:
            raise InputError(f"config has no section {name!r}; it has {', '.join(section_types)}")
    for name, section_type in section_types.items():
        sections[name] = _parse_section(name, section_type, values.get(name, {}))
    config = Config(**sections)
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
        checked[key] = _check_value(path, type(fields[key].default), value)
    return section_type(**checked)


def _check_value(path: str, expected: Any, value: Any) -> Any:
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(min(max(value, -(10**300)), 10**300))
    if expected is tuple:
        return _check_numbers(path, value)
    if type(value) is not expected:
        raise InputError(f"{path} must be of type {expected.__name__}, got {value!r}")
    if path in CHOICES and value not in CHOICES[path]:
        options = " or ".join(repr(choice) for choice in CHOICES[path])
        raise InputError(f"{path} must be {options}, got {value!r}")
    if path in RANGES:
        low, high = RANGES[path]
        if not low <= value <= high:  # NaN included
            raise InputError(f"{path} must be between {low:g} and {high:g}, got {value!r}")
    return value


def _check_numbers(path: str, value: Any) -> tuple[float, ...]:
    """JSON has lists where Python has tuples."""
    if not isinstance(value, tuple | list):
        raise InputError(f"{path} must be of type tuple, as in (1.0, 2.0), got {value!r}")
    low, high = RANGES_OF_EACH[path]
    for number in value:
        if (
            isinstance(number, bool)
            or not isinstance(number, int | float)
            or not (low <= number <= high)
        ):
            raise InputError(
                f"{path} must hold numbers between {low:g} and {high:g}, got {number!r}"
            )
    return tuple(float(number) for number in value)
