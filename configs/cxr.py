"""Chest X-rays from hospitals that training never saw: the recipe of the bundled model "cxr".

    jaxlung train --config cxr --config.data.name=folder --config.data.dir=DIR

It trains the network of configs/unet.py for films that look different: with strong changes of
geometry and exposure, opacities over the lungs, a cross-entropy term in which outlines weigh more,
smaller batches and an average of the parameters. docs/results.md says how much each of them gains,
and on which images the recipe was chosen.
"""

from jaxlung.config import load_recipe


def get_config():
    config = load_recipe("unet")

    config.augment.rotation = 20.0
    config.augment.scale = 0.4
    config.augment.aspect = 0.25
    config.augment.elastic = 0.02
    config.augment.opacity = 0.5
    config.augment.shade = 0.15
    config.augment.occlusion = 0.2

    config.loss.bce = 0.5
    config.loss.edge = 2.0

    config.train.batch_size = 8  # twice the updates for the same images
    config.train.ema = 0.995
    config.train.num_epochs = 60
    config.train.patience = 0

    return config
