"""Cores as devices: how many, and whose word counts."""

import gc
import json
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from jaxlung.system import start, threads

PROGRAM = """
import json, resource
import jax, numpy as np
from jaxlung.system import start
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
answers = {"faults_without": [faults(), faults()]}
start.keep_freed_memory()
answers["faults_with"] = [faults(), faults()]
start.count_workers = lambda: 4
start.use_cores(6)
answers["devices"] = jax.device_count()
start.use_cores(2)
answers["devices_after_start"] = jax.device_count()
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers():
    """What a process of its own, in which JAX has not started, answers to all questions."""
    kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        text=True,
        capture_output=True,
        check=True,
        env={**kept, "NUMPY_MADVISE_HUGEPAGE": "0"},
    )
    return json.loads(done.stdout)


@pytest.fixture
def devices(monkeypatch):
    """Calls `use_cores` on settings that nothing else reads; returns the number it leaves."""
    monkeypatch.setattr(start, "count_workers", lambda: 4)
    monkeypatch.delenv("XLA_FLAGS", raising=False)

    def devices(*arguments, own=-1):
        values = {"jax_num_cpu_devices": own}
        config = SimpleNamespace(values=values, update=values.__setitem__)
        monkeypatch.setattr(start, "jax", SimpleNamespace(config=config))
        start.use_cores(*arguments)
        return values["jax_num_cpu_devices"]

    return devices


@pytest.mark.parametrize(("batch", "expected"), [(0, 4), (16, 4), (6, 3), (7, 1), (2, 2)])
def test_a_device_for_each_core_that_the_batch_divides_over(devices, batch, expected):
    assert devices(batch) == expected


@pytest.mark.parametrize(
    ("batch", "processes", "expected"), [(8, 1, 4), (8, 4, 2), (6, 2, 3), (8, None, 1)]
)
def test_the_devices_of_a_process_divide_its_part_of_the_batch(devices, batch, processes, expected):
    assert devices(batch, processes) == expected


def test_the_users_number_stays(devices, monkeypatch):
    assert devices(own=3) == 3
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
    assert devices() == -1


def test_jax_has_the_devices_and_keeps_them_once_it_has_started(answers):
    assert answers["devices"] == answers["devices_after_start"] == 3


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
def test_freed_memory_is_kept(answers):
    """A second large array costs no page faults once the first has been freed."""
    assert answers["faults_with"][1] < 100 < 10_000 < answers["faults_without"][1]


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
    gc.freeze()  # what other tests have left is not looked through again and again
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
        gc.unfreeze()
