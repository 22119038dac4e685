"""Finds out how many processes share the work, and which this is: by flags, or by the cluster."""

import glob
import importlib.util
import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from jaxlung.errors import InputError

_TPU_HOSTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")  # as libtpu reads them


class Processes(NamedTuple):
    """The processes of a run; JAX asks the cluster for fields that are None."""

    number: int | None = None  # how many there are
    this: int | None = None  # which of them this is, from 0
    coordinator: str | None = None  # HOST:PORT that process 0 listens at


def find_processes(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    environ: Mapping[str, str] = os.environ,
) -> Processes | None:
    """Returns the processes by the flags, or else by the cluster; None where this one is alone.

    Args:
        coordinator, processes, process: the flags; `processes` of 1 means alone, wherever it runs.
        environ: the variables of Slurm, Kubernetes or Cloud TPU; see docs/scaling.md.

    Raises:
        InputError: a flag is wrong, or one of the three is missing.
    """
    given = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    if processes == 1 and process in (None, 0):
        return None
    if any(value is not None for value in given.values()):
        missing = [flag for flag, value in given.items() if value is None]
        if processes is None or process is None or coordinator is None:
            present = " and ".join(flag for flag in given if flag not in missing)
            raise InputError(f"{', '.join(missing)}: needed with {present}; give all three")
        if processes < 1:
            raise InputError(f"--processes must be at least 1, got {processes}")
        if not 0 <= process < processes:
            raise InputError(
                f"--process must be between 0 and {processes - 1} (--processes {processes}), "
                f"got {process}"
            )
        port = re.fullmatch(r".+:(\d{1,5})", coordinator)
        if not port or not 0 < int(port[1]) < 2**16:
            raise InputError(
                f"--coordinator must be HOST:PORT, as in node1:8476, got {coordinator!r}"
            )
        return Processes(processes, process, coordinator)
    # Not SLURM_NTASKS, which a batch script has too, though it runs once.
    tasks = environ.get("SLURM_STEP_NUM_TASKS", "")
    if tasks.isdecimal() and int(tasks) > 1:
        return Processes(int(tasks))
    if "KUBERNETES_SERVICE_HOST" in environ and "JOB_COMPLETION_INDEX" in environ:
        return Processes()
    hosts = next((environ[name] for name in _TPU_HOSTS if name in environ), None)
    if hosts is not None:
        return Processes() if len(hosts.split(",")) > 1 else None
    if "TPU_SKIP_MDS_QUERY" not in environ and _on_tpu():
        return Processes()  # the VM's metadata say how many workers there are
    return None


def _on_tpu() -> bool:
    """Whether this is a virtual machine of Cloud TPU."""
    chips = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
    return bool(chips) and importlib.util.find_spec("libtpu") is not None


class Share(NamedTuple):
    """Every `of`-th file, from the `number`-th on (from 1)."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number:04d}-of-{self.of:04d}"


def find_share(flag: str | None, environ: Mapping[str, str] = os.environ) -> Share | None:
    """Returns the share that `--share I/N` or a Slurm step of several tasks names; None: all.

    Raises:
        InputError: the flag is wrong.
    """
    if flag is None:
        tasks, task = (environ.get(f"SLURM_{name}", "") for name in ("STEP_NUM_TASKS", "PROCID"))
        if not (tasks.isdecimal() and task.isdecimal() and int(tasks) > 1):
            return None
        return Share(int(task) + 1, int(tasks))
    match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", flag)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"--share must be I/N with I from 1 to N, as in 3/8, got {flag!r}")
    share = Share(int(match[1]), int(match[2]))
    return share if share.of > 1 else None
