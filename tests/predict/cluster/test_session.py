"""`--ray` is refused in one line where it cannot work, before any other work."""

import sys

import jax
import pytest

from jaxlung.predict.cluster.session import check_address, count_devices
from tests.helpers.bucket_runs import film
from tests.helpers.predict_command import predict


@pytest.fixture
def films(tmp_path):
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "1.png").write_bytes(film(1))
    return tmp_path / "films"


def refusal(capsys, *arguments):
    predict(*arguments, code=2)
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_a_missing_extra_is_named(films, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    line = refusal(capsys, films, "--out", tmp_path / "out", "--ray")
    assert 'pip install "jaxlung[ray]"' in line and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "address, words", [("films/1.png", "write the paths before"), ("ray://host:10001", "HOST:PORT")]
)
def test_addresses_that_are_none_are_refused(films, tmp_path, capsys, address, words):
    line = refusal(capsys, films, "--out", tmp_path / "out", "--ray", address)
    assert words in line


def test_shares_and_ray_exclude_each_other(films, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("jaxlung.predict.cluster.session.import_ray", lambda _: None)
    arguments = (films, "--out", tmp_path / "out", "--share", "1/2", "--ray", "head:6379")
    assert "--share divides the films by hand" in refusal(capsys, *arguments)


def test_addresses_of_clusters_are_taken(monkeypatch):
    monkeypatch.setattr("jaxlung.predict.cluster.session.import_ray", lambda _: None)
    for address in ("", "auto", "10.0.0.1:6379", "head.cluster.local:6379", "[::1]:6379"):
        check_address(address)


class _Nodes:
    def __init__(self, *cores):
        self._cores = cores

    def nodes(self):
        dead = {"Alive": False, "Resources": {"CPU": 1}}
        return [dead, *({"Alive": True, "Resources": {"CPU": n}} for n in self._cores)]


@pytest.mark.parametrize(
    "cores, devices", [((2, 2), 2), ((64, 16), 8), ((6, 64), 4), ((7,), 4), ((0, 3), 2), ((), 1)]
)
def test_each_worker_has_the_same_devices_which_divide_a_batch(monkeypatch, cores, devices):
    monkeypatch.setattr(type(jax.config), "values", {"jax_num_cpu_devices": -1})
    assert count_devices(_Nodes(*cores)) == devices


def test_the_users_own_number_of_devices_counts(monkeypatch):
    monkeypatch.setattr(type(jax.config), "values", {"jax_num_cpu_devices": 1})
    assert count_devices(_Nodes(64, 64)) == 1
