"""The classic U-Net for accelerators: 64 channels, 31 M parameters, full resolution.

python train.py --config configs/unet_large.py --workdir runs/large
"""

from configs.unet import get_config as get_recipe


def get_config():
    config = get_recipe()
    config.model.width = 64
    config.model.patch = 1
    config.model.dtype = "bfloat16"
    config.data.loader = "device"
    config.train.steps_per_call = 8
    config.optim.learning_rate = 1e-3
    return config
