"""Which processes take part, by flags and by what a cluster says of itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from jaxlung.errors import InputError
from jaxlung.system import processes
from jaxlung.system.processes import Processes, find_processes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def found(monkeypatch):
    def found(environ=None, coordinator=None, number=None, process=None, tpu=False):
        monkeypatch.setattr(processes, "_on_tpu", lambda: tpu)
        return find_processes(coordinator, number, process, environ or {})

    return found


def test_a_plain_machine_is_alone(found):
    assert found() is None
    batch_script = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}
    assert found(batch_script) is None  # runs once, whatever its steps will do
    assert found({"SLURM_STEP_NUM_TASKS": "1"}) is None
    assert found({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) is None  # a pod of no indexed job
    assert found({"TPU_WORKER_HOSTNAMES": "localhost"}, tpu=True) is None
    assert found({"TPU_SKIP_MDS_QUERY": "1"}, tpu=True) is None


def test_clusters_are_found(found):
    assert found({"SLURM_STEP_NUM_TASKS": "8"}) == Processes(8)
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}
    assert found(pod) == Processes()
    assert found({"TPU_WORKER_HOSTNAMES": "a,b"}) == Processes()
    assert found(tpu=True) == Processes()


def test_flags_come_before_the_cluster(found):
    slurm = {"SLURM_STEP_NUM_TASKS": "8"}
    assert found(slurm, "node1:8476", 2, 1) == Processes(2, 1, "node1:8476")
    assert found(slurm, number=1) is None  # one of eight trainings of their own


@pytest.mark.parametrize(
    "flags, words",
    [
        (("node1:8476", None, None), "--processes, --process: needed with --coordinator"),
        ((None, 2, 0), "--coordinator: needed with --processes and --process"),
        (("node1:8476", 2, 2), "--process must be between 0 and 1"),
        (("node1:8476", 2, -1), "--process must be between 0 and 1"),
        (("node1:8476", 0, 0), "--processes must be at least 1"),
        (("node1", 2, 0), "--coordinator must be HOST:PORT"),
        (("node1:99999", 2, 0), "--coordinator must be HOST:PORT"),
    ],
)
def test_wrong_flags_are_one_line(flags, words):
    with pytest.raises(InputError, match=words):
        find_processes(*flags, {})


def test_the_command_refuses_wrong_flags_before_any_work(tmp_path):
    run = subprocess.run(
        [
            sys.executable,
            "train.py",
            "--config=configs/tiny.py",
            f"--workdir={tmp_path / 'run'}",
            "--processes=2",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1 and "--coordinator, --process: needed" in run.stderr
    assert not (tmp_path / "run").exists()
