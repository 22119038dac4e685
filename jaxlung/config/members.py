"""The members of an ensemble, as configs of single runs."""

import dataclasses
from typing import Any

from jaxlung.config.settings import Config, EnsembleConfig


def member_configs(config: Config) -> list[Config]:
    """Returns the config of each member, that of a single run; [config] without config.ensemble.

    Example:
        >>> from jaxlung.config.settings import TrainConfig
        >>> config = Config(train=TrainConfig(seed=7), ensemble=EnsembleConfig(members=2))
        >>> [member.train.seed for member in member_configs(config)]
        [7, 8]
    """
    plain = dataclasses.replace(config, ensemble=EnsembleConfig())
    section, field, values = _variation(config)
    parts = [dataclasses.replace(getattr(plain, section), **{field: value}) for value in values]
    return [dataclasses.replace(plain, **{section: part}) for part in parts]


def varied_field(config: Config) -> tuple[str, list[Any]]:
    """Returns the field in which the members differ, and each one's value."""
    _, field, values = _variation(config)
    return field, values


def _variation(config: Config) -> tuple[str, str, list[Any]]:
    """Returns the section and the field in which the members differ, and each one's value."""
    if config.ensemble.folds:
        return "data", "fold", list(range(config.data.folds))
    if config.ensemble.learning_rates:
        return "optim", "learning_rate", list(config.ensemble.learning_rates)
    return "train", "seed", [config.train.seed + i for i in range(config.ensemble.members)]
