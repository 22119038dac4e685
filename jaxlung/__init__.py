"""jaxlung: lung segmentation in pure JAX.

`import jaxlung` is fast: the names below, and the modules of pure functions, load at first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxlung.version import __version__

if TYPE_CHECKING:
    from jaxlung import (
        augmentation,
        forward,
        losses,
        metrics,
        model,
        optimizer,
        phantom,
        preprocess,
        steps,
    )
    from jaxlung.augmentation import augment
    from jaxlung.config import Config, default_config, member_configs, parse_config
    from jaxlung.errors import InputError, TrainingError
    from jaxlung.evaluation.evaluate import evaluate
    from jaxlung.evaluation.mask_scores import score
    from jaxlung.export.write import export_model
    from jaxlung.io.images import read_image
    from jaxlung.io.masks import read_mask
    from jaxlung.losses import segmentation_loss, soft_dice_loss
    from jaxlung.metrics import statistics, surface
    from jaxlung.metrics.overlap import Counts, accuracy, count_pixels, dice, iou, precision, recall
    from jaxlung.metrics.surface import assd, hausdorff, nsd, surface_distances
    from jaxlung.model import UNet
    from jaxlung.predict.load import load
    from jaxlung.predict.prediction import Prediction
    from jaxlung.predict.predictor import Predictor
    from jaxlung.preprocess import Geometry, from_canvas, preprocess_image, to_canvas
    from jaxlung.train.ensemble import train_ensemble
    from jaxlung.train.loop import train_and_evaluate

_NAMES = {
    "augmentation": ["augment"],
    "config": ["Config", "default_config", "member_configs", "parse_config"],
    "errors": ["InputError", "TrainingError"],
    "evaluation.evaluate": ["evaluate"],
    "evaluation.mask_scores": ["score"],
    "export.write": ["export_model"],
    "io.images": ["read_image"],
    "io.masks": ["read_mask"],
    "losses": ["segmentation_loss", "soft_dice_loss"],
    "metrics.overlap": ["Counts", "accuracy", "count_pixels", "dice", "iou", "precision", "recall"],
    "metrics.surface": ["assd", "hausdorff", "nsd", "surface_distances"],
    "model": ["UNet"],
    "predict.load": ["load"],
    "predict.prediction": ["Prediction"],
    "predict.predictor": ["Predictor"],
    "preprocess": ["Geometry", "from_canvas", "is_lung", "preprocess_image", "to_canvas"],
    "train.ensemble": ["train_ensemble"],
    "train.loop": ["train_and_evaluate"],
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
# None of these is also a name above: importing the module would hide the function.
_PARTS = "augmentation forward losses metrics model optimizer phantom preprocess steps".split()
_MODULES = {
    **{name: name for name in _PARTS},
    "statistics": "metrics.statistics",
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
