"""Five-fold cross-validation in one command, and its members' mean as a model.

python train.py --config configs/ensemble.py --workdir runs/folds
python eval.py --workdir runs/folds

Seeds or learning rates in the folds' place:
--config.ensemble.folds=False --config.data.folds=0 --config.ensemble.members=4
--config.ensemble.folds=False --config.data.folds=0 --config.ensemble.learning_rates="(1e-3, 2e-3)"
"""

from configs.unet import get_config as get_recipe


def get_config():
    config = get_recipe()
    config.data.folds = 5
    config.ensemble.folds = True
    return config
