"""A batch on Ray: what the plain command gives, whatever dies meanwhile, and it ends by itself."""

import csv
import dataclasses
import io
import json
import re
import threading
from pathlib import PurePosixPath

import jax
import numpy as np
import pyarrow.parquet
import pytest

from jaxlung.cli import predict as predict_command
from jaxlung.errors import InputError
from jaxlung.predict.batch import run, summary
from jaxlung.predict.batch.outputs import Job, Options
from jaxlung.predict.batch.sources import Source
from jaxlung.predict.cluster import pipeline, stages
from jaxlung.system.files import name_partial
from tests.helpers.bucket_runs import Tiny, film
from tests.helpers.ray_clusters import run_script

pytest.importorskip("ray.data", reason="pip install 'jaxlung[ray]'")


def write_films(folder, count):
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:04d}.png").write_bytes(film(i))
    return folder


def outputs(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*.png")}


def rows(folder):
    return list(csv.DictReader(io.StringIO((folder / summary.CSV).read_text())))


def without_seconds(found):
    return [{**row, "seconds": ""} for row in found]


# Both runs in one process: JAX is started, and the network compiled, once.
_BOTH = """
import json, sys, threading, time
import psutil
from tests.helpers.bucket_runs import Tiny
films, plain, on_ray = sys.argv[1:]
tiny, listening = Tiny(), []

def watch():
    while not stop.wait(0.3):
        for process in psutil.Process().children(recursive=True):
            try:
                for one in process.net_connections("tcp"):
                    if one.status == "LISTEN":
                        listening.append((process.name(), one.laddr.ip))
            except psutil.Error:
                pass

stop = threading.Event()
threading.Thread(target=watch, daemon=True).start()
tiny.predict(films, "--out", on_ray, "--ray", code=1)
stop.set()
tiny.predict(films, "--out", plain, code=1)
print(json.dumps({"hosts": sorted({ip for _, ip in listening})}))
"""


@pytest.mark.slow  # Ray takes a minute to start beside other tests; its stages are tested below
def test_ray_on_this_machine_gives_what_the_plain_command_gives(tmp_path):
    films = write_films(tmp_path / "films", 19)
    (films / "bad.png").write_bytes(b"no film")
    plain, on_ray = tmp_path / "plain", tmp_path / "ray"
    found = run_script(_BOTH, films, plain, on_ray)
    assert len(outputs(plain)) == 38 and outputs(on_ray) == outputs(plain)
    assert without_seconds(rows(on_ray)) == without_seconds(rows(plain))
    assert [row["status"] for row in rows(on_ray)].count("failed") == 1
    table = pyarrow.parquet.read_table(on_ray / summary.PARQUET).to_pylist()
    assert [row["name"] for row in table] == [row["name"] for row in rows(on_ray)]
    assert table[0]["lung_px"] == int(rows(on_ray)[0]["lung_px"])
    errors = found["stderr"].splitlines()  # of each run one, and nothing of Ray's
    assert len(errors) == 2 and all("bad.png: is not an image" in line for line in errors)
    assert set(found["hosts"]) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"} and found["hosts"]


def test_a_pool_that_stalls_is_given_up():
    class Stalled:
        def iter_batches(self, **_):
            yield "table"
            threading.Event().wait(30)

    taken = pipeline._take(Stalled(), stall_s=0.2)
    assert next(taken) == "table"
    with pytest.raises(OSError, match="no film was finished for 0.2 s; is there a worker left"):
        next(taken)


def test_what_ray_raises_is_one_line_without_credentials():
    class Failing:
        def iter_batches(self, **_):
            raise RuntimeError("a long\ntraceback\nValueError: secret_key=hidden")
            yield

    with pytest.raises(OSError, match=r"^Ray's workers failed: ValueError: secret_key=\*\*\*$"):
        list(pipeline._take(Failing(), stall_s=5))


def test_results_are_rows_failures_and_ends(tmp_path):
    jobs = [Job(Source(tmp_path / "1.png", "", PurePosixPath("1")), Options(out=tmp_path))]
    base = {"index": 0, "seconds": 1.5, "row": "", "failure": ""}
    [done] = pipeline._results(jobs, [base | {"row": json.dumps({"status": "ok"})}])
    assert (done.item, done.result["status"], done.seconds) == (jobs[0], "ok", 1.5)
    failure = json.dumps({"error": "1.png: is damaged", "warnings": ["is odd"]})
    [done] = pipeline._results(jobs, [base | {"failure": failure}])
    assert isinstance(done.result, InputError) and done.result.warnings == ["is odd"]
    ends = json.dumps({"ends": "the bucket is full"})
    with pytest.raises(OSError, match="the bucket is full"):
        list(pipeline._results(jobs, [base | {"failure": ends}]))
    refused = json.dumps({"refused": "the model's output is not finite"})
    with pytest.raises(InputError, match="not finite"):
        list(pipeline._results(jobs, [base | {"failure": refused}]))


def test_films_that_ray_loses_are_told_and_going_on_predicts_them(tmp_path, monkeypatch, capsys):
    films, out, tiny = write_films(tmp_path / "films", 4), tmp_path / "out", Tiny()
    tiny.predict(films / "0001.png", "--out", out)  # a row of an earlier run is no result

    torn = out / name_partial("0000.png")
    torn.write_bytes(b"of a worker that was killed")

    def lossy(models, jobs):
        for done in run._here(models, jobs, 1):
            if done.item.name not in ("0001", "0002"):
                yield done

    with monkeypatch.context() as patched:
        patched.setattr(predict_command, "_choose_ray", lambda _: lossy)
        tiny.predict(films, "--out", out, "--overwrite", "--ray", code=1)
    assert not torn.exists()
    told = capsys.readouterr()
    assert "2 failed (2 of them without a result; pass --resume)" in told.out
    errors = told.err.splitlines()
    assert len(errors) == 2 and f"{films / '0002.png'}: has no result" in errors[1]
    status = {row["name"]: row["status"] for row in rows(out)}
    assert status == {"0000": "ok", "0001": "failed", "0002": "failed", "0003": "ok"}
    tiny.predict(films, "--out", out, "--resume")
    assert "4 predicted (2 of them before)" in capsys.readouterr().out


def three_films(tmp_path, monkeypatch, models):
    """Returns the plan and the table of three films, whose actor has these models."""
    films, out = write_films(tmp_path / "films", 3), tmp_path / "out"
    out.mkdir()
    (out / summary.JOURNAL).touch()  # the driver's
    plan = stages.Plan(Options(out=out), stages.without_weights(models), str(tmp_path), 2)
    monkeypatch.setattr(stages, "load_in_actor", lambda plan, _: models)
    monkeypatch.chdir(tmp_path)
    sources = [Source(films / f"000{i}.png", "", PurePosixPath(f"000{i}")) for i in range(3)]
    encoded = [stages.encode_source(source) for source in sources]
    return plan, pyarrow.table({"index": [0, 1, 2], "source": encoded})


@pytest.mark.parametrize("folder", ["missing", "another"])
def test_a_machine_that_does_not_see_the_outputs_ends_the_batch(tmp_path, monkeypatch, folder):
    """Not at the first stage only: the last one may run on another machine."""
    plan, table = three_films(tmp_path, monkeypatch, Tiny().models)
    predicted = stages.Network(plan, None)(stages.prepare_block(table, plan))
    (tmp_path / "another").mkdir()
    elsewhere = plan._replace(options=Options(out=tmp_path / folder))
    words = rf"{folder} is not seen by the machine \S+; give --out a folder that all machines see"
    for one in (stages.prepare_block(table, elsewhere), stages.finish_block(predicted, elsewhere)):
        assert all(re.search(words, json.loads(f)["ends"]) for f in one["failure"].to_pylist())
    assert not (tmp_path / "missing").exists() and not list((tmp_path / "another").iterdir())


def test_weights_that_are_not_finite_end_the_batch_as_they_do_without_ray(
    tmp_path, monkeypatch, capsys
):
    tiny, film = Tiny(), tmp_path / "films" / "0000.png"
    broken = jax.tree.map(lambda array: np.full_like(array, np.nan), tiny.models.xray.variables)
    tiny.models = stages.Models(
        stages._restore(dataclasses.replace(tiny.models.xray, variables=broken))
    )
    plan, table = three_films(tmp_path, monkeypatch, tiny.models)
    found = stages.finish_block(stages.Network(plan, None)(stages.prepare_block(table, plan)), plan)

    def on_ray(models, jobs):
        yield from pipeline._results(jobs, found.to_pylist()[:1])

    tiny.predict(film, "--out", tmp_path / "plain", code=2)
    monkeypatch.setattr(predict_command, "_choose_ray", lambda _: on_ray)
    tiny.predict(film, "--out", tmp_path / "ray", "--ray", code=2)
    plain, ray = capsys.readouterr().err.splitlines()
    assert plain == ray and "the model's output is not finite" in plain
    assert not (tmp_path / "plain" / summary.CSV).exists()
    assert not (tmp_path / "ray" / summary.CSV).exists()


def test_stages_hold_every_film_and_raise_for_none(tmp_path, monkeypatch):
    """The three stages one after another, without Ray: damaged films keep their row."""
    plan, table = three_films(tmp_path, monkeypatch, Tiny().models)
    (tmp_path / "films" / "0001.png").write_bytes(b"no film")
    done = stages.finish_block(stages.Network(plan, None)(stages.prepare_block(table, plan)), plan)
    found = done.to_pylist()
    assert [bool(one["row"]) for one in found] == [True, False, True]
    assert "is not an image" in json.loads(found[1]["failure"])["error"]
    assert len(outputs(tmp_path / "out")) == 4
    again = stages.finish_block(stages.Network(plan, None)(stages.prepare_block(table, plan)), plan)
    assert [one["row"] for one in again.to_pylist()] == [one["row"] for one in found]


_KILLS = """
import json, os, signal, sys, threading, time
import psutil
os.environ["RAY_health_check_failure_threshold"] = "3"
os.environ["RAY_health_check_period_ms"] = "2000"
import ray
from ray.cluster_utils import Cluster
from tests.helpers.bucket_runs import Tiny
films, plain, on_ray = sys.argv[1:]
cluster = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 2, "include_dashboard": False, "object_store_memory": 2**28},
)
second = cluster.add_node(num_cpus=2, object_store_memory=2**28)
cluster.wait_for_nodes()
killed = []

def count():
    try:
        with open(os.path.join(on_ray, ".summary.jsonl")) as journal:
            return sum(1 for _ in journal) - 1
    except OSError:
        return 0

def kill():
    while count() < 300:
        time.sleep(0.05)
    for process in psutil.process_iter(["cmdline"]):
        if "ray::MapWorker" in " ".join(process.info["cmdline"] or [])[:40]:
            process.kill()
            killed.append("actor")
            break
    while count() < 700:
        time.sleep(0.05)
    cluster.remove_node(second, allow_graceful=False)
    killed.append(f"node after {count()}")

threading.Thread(target=kill, daemon=True).start()
tiny = Tiny()
start = time.time()
tiny.predict(films, "--out", on_ray, "--ray", cluster.address)
spent = time.time() - start
tiny.predict(films, "--out", plain)
cluster.shutdown()
print(json.dumps({"killed": killed, "seconds": spent}))
"""


@pytest.mark.slow  # 2000 films twice; the test above has the same without a kill
def test_a_killed_actor_and_a_killed_machine_cost_nothing_but_time(tmp_path):
    films = write_films(tmp_path / "films", 2000)
    plain, on_ray = tmp_path / "plain", tmp_path / "ray"
    found = run_script(_KILLS, films, plain, on_ray, seconds=1500)
    assert len(found["killed"]) == 2, found
    names = [row["name"] for row in rows(on_ray)]
    assert len(names) == len(set(names)) == 2000
    assert {row["status"] for row in rows(on_ray)} == {"ok"}
    assert outputs(on_ray) == outputs(plain) and len(outputs(plain)) == 4000
