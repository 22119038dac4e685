"""The values that each field of a config may have."""

from typing import Any

# Inclusive (low, high) of each number; a field not listed here is text, a choice or a switch.
RANGES: dict[str, tuple[float, float]] = {
    "data.size": (16, 8192),
    "data.validation_fraction": (0.001, 0.999),
    "data.test_fraction": (0.001, 0.999),
    "data.folds": (0, 1000),
    "data.fold": (0, 999),
    "data.phantom_train": (1, 10**5),
    "data.phantom_validation": (1, 10**5),
    "data.phantom_test": (1, 10**5),
    "data.seed": (0, 2**31 - 1),
    "data.cache_gib": (0, 10**6),
    "data.window_low": (-2000, 4000),
    "data.window_high": (-2000, 4000),
    "augment.rotation": (0, 180),
    "augment.flip": (0, 1),
    "augment.scale": (0, 4),
    "augment.aspect": (0, 4),
    "augment.shift": (0, 1),
    "augment.contrast": (0, 1),
    "augment.brightness": (0, 1),
    "augment.gamma": (0, 9),
    "augment.elastic": (0, 0.05),  # beyond, the image folds over itself
    "augment.opacity": (0, 1),
    "augment.shade": (0, 1),
    "augment.blur": (0, 1.5),  # beyond, the Gaussian's tails are cut: appearance.random_blur
    "augment.noise": (0, 1),
    "augment.invert": (0, 1),
    "augment.occlusion": (0, 1),
    "model.width": (1, 4096),
    "model.depth": (1, 8),
    "model.dropout": (0, 0.9),
    "loss.dice": (0, 1000),
    "loss.bce": (0, 1000),
    "loss.tversky": (0.05, 0.95),  # at 0 or 1 an empty or a full mask costs nothing
    "loss.robust": (0, 1),
    "loss.edge": (0, 1000),
    "optim.learning_rate": (1e-12, 10),
    "optim.warmup_epochs": (0, 10**6),
    "optim.final_fraction": (0, 1),
    "optim.weight_decay": (0, 10),
    "optim.clip_norm": (0, 10**6),
    "train.batch_size": (1, 10**6),
    "train.num_epochs": (1, 10**6),
    "train.patience": (0, 10**6),
    "train.ema": (0, 0.999999),
    "train.accumulate": (1, 10**6),
    "train.steps_per_call": (1, 10**4),
    "train.checkpoint_steps": (0, 10**9),
    "train.skip_nonfinite": (0, 10**6),
    "train.seed": (0, 2**31 - 1),
    "train.threshold": (0.001, 0.999),
    "ensemble.members": (1, 1000),
    "mesh.data": (0, 10**6),
    "mesh.model": (1, 10**6),
    "mesh.space": (1, 10**6),
}
# The same of each number in a field that holds several.
RANGES_OF_EACH: dict[str, tuple[float, float]] = {
    "data.weights": (1e-6, 1e6),
    "ensemble.learning_rates": (1e-12, 10),
}
CHOICES: dict[str, tuple[Any, ...]] = {
    "data.split": ("hash", "published", "fold1", "fold2"),
    "data.fit": ("letterbox", "stretch"),
    "data.loader": ("auto", "tfdata", "memory", "device"),
    "model.patch": (1, 2, 4),
    "model.norm": ("group", "batch", "none"),
    "model.dtype": ("float32", "bfloat16"),
}
