"""Every setting of a run: what it means, its default, its range, and what has to agree."""

from jaxlung.config.members import member_configs, varied_field
from jaxlung.config.parsing import default_config, parse_config
from jaxlung.config.recipes import list_recipes, load_recipe
from jaxlung.config.settings import (
    AugmentConfig,
    Config,
    DataConfig,
    EnsembleConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)

__all__ = [
    "AugmentConfig",
    "Config",
    "DataConfig",
    "EnsembleConfig",
    "LossConfig",
    "MeshConfig",
    "ModelConfig",
    "OptimConfig",
    "TrainConfig",
    "default_config",
    "list_recipes",
    "load_recipe",
    "member_configs",
    "parse_config",
    "varied_field",
]
