"""The classic U-Net for accelerators: 64 channels, 31 M parameters, full resolution.

jaxlung train --config unet_large --workdir runs/large
"""

from jaxlung.config import load_recipe


def get_config():
    config = load_recipe("unet")
    config.model.width = 64
    config.model.patch = 1
    config.model.dtype = "bfloat16"
    config.data.loader = "device"
    config.train.steps_per_call = 8
    config.optim.learning_rate = 1e-3
    return config
