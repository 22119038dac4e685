"""jaxlung: lung segmentation in pure JAX.

The names below, and the modules of pure functions, are loaded when first used, so that
`import jaxlung` is fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxlung.version import __version__

if TYPE_CHECKING:
    from jaxlung import augmentation, losses, metrics, model, optimizer, phantom, preprocess, steps
    from jaxlung.augmentation import augment
    from jaxlung.config import Config, default_config, member_configs, parse_config
    from jaxlung.errors import InputError, TrainingError
    from jaxlung.evaluation.evaluate import evaluate
    from jaxlung.evaluation.mask_scores import score
    from jaxlung.io.images import read_image
    from jaxlung.io.masks import read_mask
    from jaxlung.losses import segmentation_loss, soft_dice_loss
    from jaxlung.metrics import (
        Counts,
        accuracy,
        assd,
        count_pixels,
        dice,
        hausdorff,
        iou,
        nsd,
        precision,
        recall,
        statistics,
        surface,
        surface_distances,
    )
    from jaxlung.model import UNet
    from jaxlung.predict.load import load
    from jaxlung.predict.predictor import Prediction, Predictor
    from jaxlung.preprocess import Geometry, from_canvas, preprocess_image, to_canvas
    from jaxlung.train.ensemble import train_ensemble
    from jaxlung.train.loop import train_and_evaluate

_HOME = {
    "augment": "augmentation",
    "Config": "config",
    "default_config": "config",
    "parse_config": "config",
    "train_ensemble": "train.ensemble",
    "member_configs": "config",
    "InputError": "errors",
    "TrainingError": "errors",
    "evaluate": "evaluation.evaluate",
    "read_image": "io.images",
    "read_mask": "io.masks",
    "segmentation_loss": "losses",
    "soft_dice_loss": "losses",
    "score": "evaluation.mask_scores",
    "Counts": "metrics",
    "accuracy": "metrics",
    "count_pixels": "metrics",
    "dice": "metrics",
    "iou": "metrics",
    "precision": "metrics",
    "recall": "metrics",
    "UNet": "model",
    "Prediction": "predict.predictor",
    "Predictor": "predict.predictor",
    "load": "predict.load",
    "Geometry": "preprocess",
    "from_canvas": "preprocess",
    "preprocess_image": "preprocess",
    "to_canvas": "preprocess",
    "assd": "metrics",
    "hausdorff": "metrics",
    "nsd": "metrics",
    "surface_distances": "metrics",
    "train_and_evaluate": "train.loop",
}
# No name above is also a module's: importing the module would put it in the function's place.
_MODULES = {
    "augmentation": "augmentation",
    "losses": "losses",
    "metrics": "metrics",
    "model": "model",
    "optimizer": "optimizer",
    "phantom": "phantom",
    "preprocess": "preprocess",
    "statistics": "metrics.statistics",
    "steps": "steps",
    "surface": "metrics.surface",
}
__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"jaxlung.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"jaxlung.{_MODULES[name]}")
    raise AttributeError(f"module 'jaxlung' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
