"""Commands of the repository in processes of their own, forked with all imports done."""

import os
import runpy
import sys
import tempfile
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from tests.helpers.forked_runs import CONTEXT

ROOT = Path(__file__).parents[2]


class Ended(NamedTuple):
    """As `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


def start(*command, out: Path, err: Path) -> BaseProcess:
    """Starts it; its output goes to files."""
    process = CONTEXT.Process(target=_run, args=([*map(str, command)], out, err))
    process.start()
    return process


def run(*command) -> Ended:
    """What `python *command` does in the repository's root: `train.py ...` or `-m jaxlung ...`."""
    with tempfile.TemporaryDirectory() as name:
        out, err = Path(name, "out"), Path(name, "err")
        process = start(*command, out=out, err=err)
        process.join(120)
        assert process.exitcode is not None, f"{command} does not end"
        return Ended(process.exitcode, out.read_text(), err.read_text())


def _run(command: list[str], out: Path, err: Path) -> None:
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    try:
        if command[0] == "-m":
            sys.argv = command[1:]
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            runpy.run_path(command[0], run_name="__main__")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
