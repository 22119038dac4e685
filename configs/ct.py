"""Lungs in CT slices: the recipe of configs/unet.py on axial slices in a lung window.

    jaxlung train --config ct --config.data.dir=DIR
    jaxlung predict scan.nii.gz --model runs/ct --out masks

DIR holds images/ and masks/ with volumes of the same stems, in Hounsfield units: NIfTI files, or
folders of DICOM series with contours (RTSTRUCT) or segmentations (SEG) as masks (docs/ct.md). Any
label above 0 is lung. Install the extra first: pip install -e ".[ct]"
"""

from jaxlung.config import default_config


def get_config():
    config = default_config()

    config.data.name = "ct"
    config.data.size = 256
    # Hounsfield units that hold air, lung and soft tissue, so that other windows can be drawn.
    config.data.window_low = -1024.0
    config.data.window_high = 600.0

    # Hounsfield units mean the same in every scan: images are not standardised, and most keep their
    # values, as the outline is drawn by them. Pictures of slices come in any window, and some as
    # negatives.
    config.model.standardize = False
    config.augment.window = 0.4
    config.augment.invert = 0.1
    config.augment.contrast = 0.0
    config.augment.brightness = 0.0
    config.augment.gamma = 0.0
    config.augment.noise = 0.05  # sharp kernels, thin slices
    config.augment.blur = 0.5  # soft kernels, thick slices
    config.augment.rotation = 20.0
    config.augment.scale = 0.4  # fields of view
    config.augment.elastic = 0.0
    config.augment.occlusion = 0.1  # the table, text

    # A slice without lung has no overlap to learn from: cross-entropy learns from every pixel, and
    # 200 pixels keep the Dice loss of these slices from outweighing all others.
    config.loss.dice = 1.0
    config.loss.smooth = 200.0
    config.loss.bce = 0.5
    config.loss.edge = 2.0

    config.optim.warmup_epochs = 1.0
    config.train.batch_size = 4  # twice the updates of 8 for the same slices
    config.train.ema = 0.99
    config.train.num_epochs = 20
    config.train.patience = 0

    return config
