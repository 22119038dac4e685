"""Describes when, with which packages and on which devices something was made."""

import importlib.metadata
import os
import platform
import time
from typing import Any

import jax

from jaxlung.version import __version__

_PACKAGES = (
    "jaxlung",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "opencv-python-headless",
    "tensorflow-cpu",
)


def describe_environment(*, devices: bool = True) -> dict[str, Any]:
    """Describes time, Python, packages and cores, and, if asked to, devices, which starts JAX."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "devices": [f"{d.platform}:{d.device_kind}" for d in jax.devices()] if devices else [],
        "cpu_count": os.cpu_count(),
    }


def _version(name: str) -> str | None:
    if name == "jaxlung":
        return __version__  # of the code that runs, installed or not
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
