"""The U-Net: image in [0, 1] to logits."""

from jaxlung.model.unet import UNet, build_model, lung_probability, standardize, to_mask

__all__ = ["UNet", "build_model", "lung_probability", "standardize", "to_mask"]
