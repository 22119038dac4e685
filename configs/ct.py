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
    config.data.window_low = -1350.0  # Hounsfield units: level -600, width 1500
    config.data.window_high = 150.0

    # Hounsfield units mean the same in every scan: images are not standardised, and intensity
    # changes much less than in X-rays.
    config.model.standardize = False
    config.augment.contrast = 0.1
    config.augment.brightness = 0.05
    config.augment.gamma = 0.1

    # A slice without lung has no overlap to learn from; cross-entropy learns from every pixel.
    config.loss.dice = 1.0
    config.loss.bce = 0.5

    return config
