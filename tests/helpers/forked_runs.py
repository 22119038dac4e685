"""Trainings in processes of their own, which start in no time: forked with all imports done."""

import multiprocessing
import os
import sys
from pathlib import Path

# Preloaded by the server that forks: it imports this module, and this module the rest.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.helpers.forked_runs"])

import matplotlib.figure  # noqa: E402, F401
import orbax.checkpoint  # noqa: E402, F401
import tensorboardX  # noqa: E402, F401

from jaxlung.errors import one_line_errors  # noqa: E402
from jaxlung.train.loop import train_and_evaluate  # noqa: E402


def start(values: dict, workdir: Path, output: Path) -> multiprocessing.Process:
    """What `train.py` does with that config, on one device; its output is appended to a file."""
    process = CONTEXT.Process(target=_train, args=(values, workdir, output))
    process.start()
    return process


def _train(values: dict, workdir: Path, output: Path) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
    one_line_errors(train_and_evaluate)(values, workdir)
    sys.stdout.flush()
