"""A run of a few seconds, for tests: everything works, and it learns little.

python train.py --config configs/tiny.py --workdir runs/tiny
"""

from configs.unet import get_config as get_recipe


def get_config():
    config = get_recipe()
    config.data.size = 32
    config.data.phantom_train = 8
    config.data.phantom_validation = 3
    config.data.phantom_test = 3
    config.model.width = 4
    config.model.depth = 1
    config.train.batch_size = 4
    config.train.num_epochs = 3
    return config
