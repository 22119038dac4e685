"""A run of a few seconds, for tests: everything works, and it learns little.

jaxlung train --config tiny --workdir runs/tiny
"""

from jaxlung.config import load_recipe


def get_config():
    config = load_recipe("unet")
    config.data.size = 32
    config.data.phantom_train = 8
    config.data.phantom_validation = 3
    config.data.phantom_test = 3
    config.model.width = 4
    config.model.depth = 1
    config.train.batch_size = 4
    config.train.num_epochs = 3
    return config
