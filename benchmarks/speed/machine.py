"""What a figure was measured on: the machine, the packages and the commit."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("jax", "jaxlib", "flax", "torch", "keras", "tensorflow-cpu", "tensorflow", "monai")


def describe_machine(device: str) -> dict[str, Any]:
    """Returns the processor, the accelerator ("" for the device "cpu"), versions and commit."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip()
    except FileNotFoundError:  # no git
        described = ""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = {line.split(":")[1].strip() for line in lines if line.startswith("model name")}
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": ", ".join(sorted(names)) or platform.processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "accelerator": accelerator() if device == "gpu" else "",
        "versions": versions,
        "commit": described or "unknown",
    }


def accelerator() -> str:
    """Asks a process of its own: JAX in this one would hold memory that contenders need."""
    program = "import jax; print(jax.devices()[0].device_kind)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.stdout.strip()
