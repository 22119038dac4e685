"""Cores as devices: how many, and whose word counts."""

import gc
import os
import platform
import subprocess
import sys

import pytest

from jaxlung.system import start, threads

PROGRAM = """
import sys, jax
from jaxlung.system import start, threads
start.count_workers = lambda: {cores}
if {started}: jax.devices()
start.use_cores({batch})
print(jax.device_count())
"""


def devices(cores=4, batch=0, started=False, **environment):
    kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    program = PROGRAM.format(cores=cores, batch=batch, started=started)
    done = subprocess.run(
        [sys.executable, "-c", program],
        text=True,
        capture_output=True,
        check=True,
        env={**kept, **environment},
    )
    return int(done.stdout)


@pytest.mark.parametrize(("batch", "expected"), [(0, 4), (16, 4), (6, 3), (7, 1), (2, 2)])
def test_a_device_for_each_core_that_the_batch_divides_over(batch, expected):
    assert devices(batch=batch) == expected


@pytest.mark.parametrize(
    "environment",
    [{"JAX_NUM_CPU_DEVICES": "3"}, {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}],
)
def test_the_users_number_stays(environment):
    assert devices(**environment) == 3


def test_jax_that_has_started_stays_as_it_is():
    assert devices(started=True) == 1


@pytest.mark.parametrize(
    ("text", "share"), [("max 100000", 5), ("150000 100000", 2), ("50000 100000", 1), ("?", 5)]
)
def test_a_containers_share_of_the_cores_counts(tmp_path, monkeypatch, text, share):
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(threads, "_CPU_MAX", tmp_path / "cpu.max")
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: range(5), raising=False)
    assert threads.count_cores() == threads.count_workers() == share
    monkeypatch.setattr(threads, "_CPU_MAX", tmp_path / "absent")
    assert threads.count_cores() == 5


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_kept():
    """A second large array costs no page faults once the first has been freed."""
    program = """
import resource, sys
import numpy as np
from jaxlung.system import start, threads
if {keep}: start.keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""

    def second(keep):
        done = subprocess.run(
            [sys.executable, "-c", program.format(keep=keep)],
            text=True,
            capture_output=True,
            check=True,
            env={**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"},
        )
        return int(done.stdout)

    assert second(True) < 100 < 10_000 < second(False)


def test_garbage_is_looked_for_seldom_but_found():
    """A hundred thousand live objects start few collections, and cycles are freed in the end."""
    before, freed = gc.get_threshold(), []

    class Cycle:
        def __init__(self):
            self.itself = self

        def __del__(self):
            freed.append(1)

    def collections():
        started: list[dict] = []
        gc.callbacks.append(lambda phase, info: started.append(info))
        alive = [[] for _ in range(100_000)]
        gc.callbacks.pop()
        del alive
        return len(started)

    gc.collect()
    try:
        gc.set_threshold(700, 10, 10)
        often = collections()
        start.collect_garbage_rarely()
        assert collections() < often / 10
        for _ in range(100_000):
            Cycle()
        assert freed
    finally:
        gc.set_threshold(*before)
