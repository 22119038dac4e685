"""jaxlung: lung segmentation in pure JAX.

The names below, and the modules of pure functions, are loaded when first used, so that
`import jaxlung` is fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxlung import (
        augmentation,
        losses,
        metrics,
        model,
        phantom,
        preprocess,
        statistics,
        steps,
        surface,
    )
    from jaxlung.augmentation import augment
    from jaxlung.config import Config, default_config, parse_config
    from jaxlung.ensemble import train_ensemble
    from jaxlung.errors import InputError, TrainingError
    from jaxlung.evaluation import evaluate
    from jaxlung.images import read_image, read_mask
    from jaxlung.losses import segmentation_loss, soft_dice_loss
    from jaxlung.mask_scores import score
    from jaxlung.members import member_configs
    from jaxlung.metrics import Counts, accuracy, count_pixels, dice, iou, precision, recall
    from jaxlung.model import UNet
    from jaxlung.predict import load
    from jaxlung.predictor import Prediction, Predictor
    from jaxlung.preprocess import Geometry, from_canvas, preprocess_image, to_canvas
    from jaxlung.surface import assd, hausdorff, nsd, surface_distances
    from jaxlung.train import train_and_evaluate

__version__ = "0.1.0"

_HOME = {
    "augment": "augmentation",
    "Config": "config",
    "default_config": "config",
    "parse_config": "config",
    "train_ensemble": "ensemble",
    "member_configs": "members",
    "InputError": "errors",
    "TrainingError": "errors",
    "evaluate": "evaluation",
    "read_image": "images",
    "read_mask": "images",
    "segmentation_loss": "losses",
    "soft_dice_loss": "losses",
    "score": "mask_scores",
    "Counts": "metrics",
    "accuracy": "metrics",
    "count_pixels": "metrics",
    "dice": "metrics",
    "iou": "metrics",
    "precision": "metrics",
    "recall": "metrics",
    "UNet": "model",
    "Prediction": "predictor",
    "Predictor": "predictor",
    "load": "predict",
    "Geometry": "preprocess",
    "from_canvas": "preprocess",
    "preprocess_image": "preprocess",
    "to_canvas": "preprocess",
    "assd": "surface",
    "hausdorff": "surface",
    "nsd": "surface",
    "surface_distances": "surface",
    "train_and_evaluate": "train",
}
# No name above is also a module's: importing the module would put it in the function's place.
_MODULES = (
    "augmentation", "losses", "metrics", "model", "phantom", "preprocess", "statistics", "steps",
    "surface",
)  # fmt: skip
__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"jaxlung.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"jaxlung.{name}")
    raise AttributeError(f"module 'jaxlung' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
