"""Five-fold cross-validation in one command, and its members' mean as a model.

jaxlung train --config ensemble --workdir runs/folds
jaxlung eval --workdir runs/folds

Seeds or learning rates in the folds' place:
--config.ensemble.folds=False --config.data.folds=0 --config.ensemble.members=4
--config.ensemble.folds=False --config.data.folds=0 --config.ensemble.learning_rates="(1e-3, 2e-3)"
"""

from jaxlung.config import load_recipe


def get_config():
    config = load_recipe("unet")
    config.data.folds = 5
    config.ensemble.folds = True
    return config
