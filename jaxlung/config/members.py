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
    ensemble, plain = config.ensemble, dataclasses.replace(config, ensemble=EnsembleConfig())

    def changed(section: str, **values: Any) -> Config:
        replaced = dataclasses.replace(getattr(plain, section), **values)
        return dataclasses.replace(plain, **{section: replaced})

    if ensemble.folds:
        return [changed("data", fold=fold) for fold in range(config.data.folds)]
    if ensemble.learning_rates:
        return [changed("optim", learning_rate=rate) for rate in ensemble.learning_rates]
    return [changed("train", seed=config.train.seed + i) for i in range(ensemble.members)]


def varied_field(config: Config) -> tuple[str, list[float]]:
    """Returns the field in which the members differ, and each one's value."""
    configs = member_configs(config)
    if config.ensemble.folds:
        return "fold", [member.data.fold for member in configs]
    if config.ensemble.learning_rates:
        return "learning_rate", [member.optim.learning_rate for member in configs]
    return "seed", [member.train.seed for member in configs]
