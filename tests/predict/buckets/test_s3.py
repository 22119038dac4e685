"""`jaxlung predict` from and to an S3 server of this machine that checks signatures (moto's)."""

import csv
import io
import signal

import pytest

from tests.helpers import forked_commands
from tests.helpers.bucket_runs import Tiny, film
from tests.helpers.s3_server import BUCKET, Full, serve, wait_until

s3fs = pytest.importorskip("s3fs", reason="pip install 'jaxlung[s3]'")
pytest.importorskip("moto.server", reason="pip install 'jaxlung[test]'")

FILMS, MASKS = f"s3://{BUCKET}/films", f"s3://{BUCKET}/masks"


@pytest.fixture(scope="module")
def server():
    with serve() as one:
        yield one


@pytest.fixture(scope="module")
def tiny():
    return Tiny()


@pytest.fixture
def store(server, monkeypatch):
    """What the test itself sees of the bucket, which has eight films; commands find it too."""
    own = s3fs.S3FileSystem(
        key=server.key,
        secret=server.secret,
        endpoint_url=server.environ()["AWS_ENDPOINT_URL"],
        use_listings_cache=False,
    )
    for i in range(8):
        own.pipe_file(f"{BUCKET}/films/{i}.png", film(i))
    find(monkeypatch, server.environ())
    yield own
    own.rm(f"{BUCKET}/masks", recursive=True) if own.exists(f"{BUCKET}/masks") else None
    own.rm(f"{BUCKET}/films", recursive=True)


def find(monkeypatch, environ):
    """Gives the commands that follow these credentials, and this server."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()


def rows(store):
    return list(csv.DictReader(io.StringIO(store.cat_file(f"{BUCKET}/masks/summary.csv").decode())))


def error_line(capsys):
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_a_full_bucket_ends_the_run_which_goes_on_later(tiny, server, store, monkeypatch, capsys):
    with Full(server, left=6).serve() as port:
        find(monkeypatch, server.environ(port))
        tiny.predict(FILMS, "--out", MASKS, code=2)
    line = error_line(capsys)
    assert line.startswith(f"error: {MASKS}: cannot go on ({MASKS}/")
    assert "the bucket is full or over its quota" in line and "--resume" in line
    find(monkeypatch, server.environ())
    tiny.predict(FILMS, "--out", MASKS, "--resume")
    assert [row["name"] for row in rows(store)] == [str(i) for i in range(8)]
    masks = {path.rpartition("/")[2] for path in store.find(f"{BUCKET}/masks")}
    assert masks == {
        *(f"{i}{end}.png" for i in range(8) for end in ("", "_overlay")),
        *("summary.csv", "summary.json"),
    }


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials_end_it_before_any_work(tiny, server, store, monkeypatch, capsys, name):
    wrong = "AKIAWRONGWRONGWRONG1"
    find(monkeypatch, server.environ() | {name: wrong})
    tiny.predict(FILMS, "--out", MASKS, code=2)
    line = error_line(capsys)
    assert line.startswith(f"error: {MASKS}: access is denied; check the credentials")
    assert wrong not in line and server.secret not in line and server.key not in line


def test_a_vanished_object_is_a_row(tiny, server, store, monkeypatch, capsys):
    from jaxlung.predict.batch import sources

    fetch = sources.fetch

    def late(url, path, others):
        if url.endswith("/3.png") and store.exists(f"{BUCKET}/films/3.png"):
            store.rm_file(f"{BUCKET}/films/3.png")  # by somebody else, after it was listed
        fetch(url, path, others)

    monkeypatch.setattr(sources, "fetch", late)
    tiny.predict(FILMS, "--out", MASKS, code=1)
    assert error_line(capsys) == f"error: {FILMS}/3.png: there is no such object"
    assert [row["status"] for row in rows(store)].count("ok") == 7


@pytest.mark.slow  # two starts of a process; test_output has the same of a bucket in memory
def test_a_killed_process_goes_on(workdir, server, store, monkeypatch, tmp_path):
    for i in range(8, 300):
        store.pipe_file(f"{BUCKET}/films/{i}.png", film(i))
    command = ("-m", "jaxlung", "predict", FILMS, "--model", workdir, "--out")
    process = forked_commands.start(*command, MASKS, out=tmp_path / "out", err=tmp_path / "err")
    wait_until(lambda: any("/.summary-" in path for path in store.find(f"{BUCKET}/masks")), 300)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    ended = forked_commands.run(*command, MASKS, "--resume")
    assert ended.returncode == 0, ended.stderr
    assert 0 < int(ended.stdout.split(" of them before")[0].rpartition("(")[2]) < 300
    names = [row["name"] for row in rows(store)]
    assert len(names) == len(set(names)) == 300
    ended = forked_commands.run(*command, tmp_path / "plain")
    assert ended.returncode == 0, ended.stderr
    for path in (tmp_path / "plain").glob("*.png"):
        assert store.cat_file(f"{BUCKET}/masks/{path.name}") == path.read_bytes()
