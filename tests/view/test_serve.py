"""The command itself: its mistakes in one line, its address, and a server that is killed."""

import os
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from jaxlung.io.masks import read_mask
from tests.helpers import forked_commands, reviews
from tests.helpers.predict_command import jaxlung

httpx = pytest.importorskip("httpx")


@pytest.fixture
def films(tmp_path):
    reviews.write_films(tmp_path / "films", 2)
    return tmp_path / "films"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--masks", "nowhere"], "--masks nowhere: no such folder"),
        (["--port", "70000"], "--port 70000: expected 1 to 65535"),
        (["--host", "203.0.113.9"], "--host 203.0.113.9 --port 0: cannot be listened on"),
        (["--model", "nowhere"], "nowhere: no such workdir"),
        (["--colour"], "--colour"),
    ],
)
def test_mistakes_of_the_command_line_are_one_line(films, tmp_path, capfd, flags, words):
    jaxlung("view", films, "--out", tmp_path / "review", "--no-browser", *flags, code=2)
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ") and words in error
    assert not (tmp_path / "review").exists()


def test_a_taken_port_is_one_line(films, tmp_path, capfd):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = str(other.getsockname()[1])
        flags = ("--port", port, "--no-browser", "--out", tmp_path / "review")
        jaxlung("view", films, *flags, code=2)
    assert f"--port {port}: cannot be listened on" in capfd.readouterr().err


def test_films_and_scans_are_two_reviews(films, tmp_path, capfd):
    pytest.importorskip("nibabel")
    from tests.helpers.ct_scans import affine_of, body, save

    save(films / "scan.nii.gz", body()[0], affine_of())
    jaxlung("view", films, "--out", tmp_path / "review", "--no-browser", code=2)
    assert "2 films and 1 CT scans: a review is of one kind" in capfd.readouterr().err


def test_a_missing_extra_is_named(films, tmp_path, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    jaxlung("view", films, "--out", tmp_path / "review", code=2)
    assert 'pip install "jaxlung[view]"' in capfd.readouterr().err


class Server:
    """A `jaxlung view` in a process of its own."""

    def __init__(self, folder: Path, films: Path, workdir: Path, *flags):
        self.out, self.err = folder / "out.txt", folder / "err.txt"
        self.out.unlink(missing_ok=True)
        command = ["-m", "jaxlung", "view", films, "--model", workdir, "--no-browser"]
        command += ["--out", folder / "review", *flags]
        self.process = forked_commands.start(*command, out=self.out, err=self.err)
        for _ in range(6000):
            if self.out.exists() and (found := re.search(r"http\S+", self.out.read_text())):
                break
            assert self.process.exitcode is None, self.err.read_text()
            time.sleep(0.02)
        self.address, _, self.token = found[0].partition("?token=")
        self.http = httpx.Client(base_url=self.address, follow_redirects=True, timeout=120)
        self.http.headers.update({"origin": self.address.rstrip("/"), "x-jaxlung": "1"})
        assert self.http.get(f"/?token={self.token}").status_code == 200
        first = self.http.get("/api/review").json()["films"][0]
        self.film = f"/api/films/{first['id']}"

    def save(self, mask, revision):
        return self.http.put(
            f"{self.film}/mask",
            content=mask.astype(np.uint8).tobytes(),
            headers={"if-match": str(revision)},
        )

    def end(self, sign=signal.SIGKILL):
        os.kill(self.process.pid, sign)
        self.process.join(60)
        self.http.close()


def test_it_serves_this_machine_alone_and_logs_no_token(films, tmp_path, workdir):
    server = Server(tmp_path, films, workdir, "--no-tta")
    try:
        assert server.address.startswith("http://127.0.0.1:")
        assert server.http.get(server.film).json()["ready"]
        assert httpx.get(server.address, params={"token": "wrong"}).status_code == 403
        assert httpx.get(f"{server.address}api/review").status_code == 403
        # A body of 1 GB over the wire: refused long before it is sent.
        sent = Counter()

        def endless():
            while sent["bytes"] < 2**30:
                sent["bytes"] += 2**16
                yield bytes(2**16)

        try:
            answer = server.http.put(
                f"{server.film}/mask", content=endless(), headers={"if-match": "0"}
            )
            assert answer.status_code == 413
        except httpx.TransportError:
            pass  # the server has hung up
        assert sent["bytes"] < 2**25
    finally:
        server.end(signal.SIGINT)
    text = server.out.read_text() + server.err.read_text()
    assert server.process.exitcode == 0 and text.count(server.token) == 1
    assert "0 of 2 looked at" in text.splitlines()[-1] and "Traceback" not in text


def kill_during_saves(films, tmp_path, workdir, kills):
    """Kills a server at random moments of a stream of saves, and looks at what it leaves."""
    rng = np.random.default_rng(0)
    answered = sent = None  # masks; the second may be under way
    revision = 0
    for _ in range(kills):
        server = Server(tmp_path, films, workdir, "--no-tta")
        film = server.http.get(server.film).json()
        shape = film["height"], film["width"]
        now = np.frombuffer(server.http.get(f"{server.film}/mask").content, np.uint8)
        if answered is not None:  # what was answered is there, or the one that was under way
            assert film["revision"] in (revision, revision + 1) and film["state"] == "corrected"
            assert any((now.reshape(shape) > 0).tobytes() == m.tobytes() for m in (answered, sent))
            if film["revision"] == revision + 1:
                answered = sent
        revision = film["revision"]
        started, killer = time.monotonic(), None
        while True:
            sent = rng.random(shape) < 0.3
            try:
                answer = server.save(sent, revision)
            except httpx.TransportError:
                break
            assert answer.status_code == 200
            answered, revision = sent, answer.json()["revision"]
            if killer is None:  # within the next three saves or so
                delay_s = 3 * (time.monotonic() - started) * rng.random()
                killer = threading.Timer(delay_s, server.end)
                killer.start()
        killer.join()
        path = tmp_path / "review" / "masks" / "film_0.png"
        on_disk = read_mask(path)  # whole: a torn PNG would be refused
        assert any(on_disk.tobytes() == mask.tobytes() for mask in (answered, sent))


def test_a_killed_server_has_what_it_has_answered(films, tmp_path, workdir):
    kill_during_saves(films, tmp_path, workdir, kills=2)


@pytest.mark.slow
def test_a_server_killed_20_times_has_what_it_has_answered(films, tmp_path, workdir):
    kill_during_saves(films, tmp_path, workdir, kills=20)
