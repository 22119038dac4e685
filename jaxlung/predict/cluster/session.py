"""Joins a cluster of Ray, or starts Ray on this machine, for this machine alone."""

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any

from jaxlung.errors import InputError
from jaxlung.predict.predictor import BATCH
from jaxlung.system.silence import silence_stderr
from jaxlung.system.threads import count_cores, largest_divisor
from jaxlung.system.urls import redact

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # silences a warning; workers choose by themselves
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else its threads write to this process's standard error
    "RAY_agent_register_timeout_ms": "120000",  # a busy machine may take longer than Ray's 30 s
}
_STARTS = 3  # tries: Ray gives its helpers 15 s to start, which a busy machine may not have
# Of a Ray that is started here. It is how Ray is kept to 127.0.0.1: where it takes no cluster for
# possible, as it does by default on Macs. It turns an address of 127.0.0.1 that it is given into
# one that others reach.
_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Bytes of shared memory at most, of a Ray that is started here.
_STORE = 2**31


def import_ray(address: str) -> Any:
    """Imports Ray with its data pipelines; it reads its settings then.

    Args:
        address: as for `open_session`.

    Raises:
        InputError: it is not installed.
    """
    for name, value in (_QUIET if address else _QUIET | _ALONE).items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(
            '--ray needs Ray, an extra: pip install "jaxlung[ray]" (on each machine of a cluster)'
        ) from error
    return ray


def check_address(address: str) -> None:
    """Checks an address before any work, and that Ray is installed. Raises InputError."""
    if address.startswith("ray://"):
        raise InputError(
            f"--ray {address}: a client of Ray moves every film through one connection; give "
            f"HOST:PORT on a machine of the cluster, or submit the command as a job"
        )
    if address and address != "auto" and not re.fullmatch(r"\S+:\d{1,5}", address):
        raise InputError(
            f"--ray {address}: expected HOST:PORT of a cluster's head, or auto, or nothing for Ray "
            f"on this machine; write the paths before --ray"
        )
    import_ray(address)


@contextlib.contextmanager
def open_session(address: str) -> Iterator[Any]:
    """Gives Ray, connected to a cluster.

    Args:
        address: HOST:PORT of its head, or auto; "": a Ray of this machine, which listens at
            127.0.0.1, sends no statistics, has no dashboard and ends with the session.

    Raises:
        InputError: Ray is not installed, or no cluster answers.
    """
    ray = import_ray(address)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if ray.is_initialized():  # the caller's own, which stays
        yield ray
        return
    here = {
        "num_cpus": count_cores(),
        "include_dashboard": False,
        "object_store_memory": _size_store(),
    }
    options = {"address": address or "local", **({} if address else here), **quiet}
    for left in reversed(range(1 if address else _STARTS)):
        try:
            with warnings.catch_warnings():  # JAX warns of any process that is started beside it
                warnings.filterwarnings("ignore", message=r"os\.fork\(\)", category=RuntimeWarning)
                with silence_stderr():  # it says there which level of its log has been set
                    ray.init(**options)
            break
        except Exception as error:  # Ray raises many kinds
            ray.shutdown()
            if left:
                continue
            where = f"no cluster of Ray answers at {address}" if address else "Ray cannot start"
            reason = redact(" ".join(str(error).split()))[:200]
            raise InputError(f"--ray: {where} ({type(error).__name__}: {reason})") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _size_store() -> int:
    """Returns the bytes of shared memory to take: a quarter of what is free, within bounds."""
    free = os.statvfs("/dev/shm") if os.path.isdir("/dev/shm") else None
    quarter = free.f_bavail * free.f_frsize // 4 if free else _STORE
    return max(2**27, min(_STORE, quarter))


def count_devices(ray: Any) -> int:
    """Returns how many cores share a batch in each worker; the same in all, so that masks are.

    JAX_NUM_CPU_DEVICES says it; else it is what the smallest machine of the cluster has, so that a
    batch divides by it.
    """
    import jax

    given: int = jax.config.values["jax_num_cpu_devices"]
    if given == -1:
        cores = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
        given = int(min((count for count in cores if count >= 1), default=1))
    return largest_divisor(BATCH, min(BATCH, given))
