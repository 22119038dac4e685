"""The U-Net: image in [0, 1] to logits."""

from jaxlung.model.unet import UNet, build_model, standardize, to_mask, to_probability

__all__ = ["UNet", "build_model", "standardize", "to_mask", "to_probability"]
