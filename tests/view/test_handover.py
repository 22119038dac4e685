"""The end of a review: its report, and a command that trains on what was written."""

import shlex
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxlung.data.splitting import split_by_hash
from jaxlung.predict.batch.models import Models, models_of
from jaxlung.view import handover
from jaxlung.view.handover import choose_shares
from tests.helpers import reviews
from tests.helpers.predict_command import jaxlung


def run_command(command, *further):
    """Runs what the page shows, with some settings more."""
    program, *arguments = shlex.split(command)
    assert program == "jaxlung"
    place = arguments.index("--workdir")
    jaxlung(*arguments[:place], *further)


SHORT = ["--config.train.num_epochs=1", "--config.data.loader=memory"]


def test_nothing_to_train_on_is_said(model, tmp_path):
    reviews.write_films(tmp_path / "films", 2)
    with reviews.open_client(models_of(model), [tmp_path / "films"], tmp_path / "review") as client:
        client.wait()
        about = client.http.post("/api/finish").json()
        assert (
            about["command"] is about["report"] is None and "nothing is accepted" in about["note"]
        )
        assert client.http.get("/report").status_code == 404
        client.judge(0, "accept")
        about = client.http.post("/api/finish").json()
        assert about["command"] is None and "3 patients" in about["note"]
        assert about["counts"]["accepted"] == 1 and about["report"] == "/report"
        report = client.http.get("/report")
        assert "text/html" in report.headers["content-type"]
        policy = report.headers["content-security-policy"]
        assert "'sha256-" in policy and "script-src 'unsafe" not in policy


def test_a_report_is_of_the_moment_it_was_asked_for(model, tmp_path, monkeypatch):
    """Films are rejected and another window finishes meanwhile: neither takes its files away."""
    reviews.write_films(tmp_path / "films", 3)
    inside, reports, go = threading.Event(), [], threading.Event()

    def score(pred, truth, out, *, images, overwrite):
        assert not inside.is_set()  # one at a time
        inside.set()
        assert go.wait(60)
        reports.append([len(list(folder.iterdir())) for folder in (pred, truth, images)])
        inside.clear()

    monkeypatch.setattr(handover, "score", score)
    with reviews.open_client(models_of(model), [tmp_path / "films"], tmp_path / "review") as client:
        client.wait()
        for i in range(3):
            client.judge(i, "accept")
        with ThreadPoolExecutor() as pool:
            first = pool.submit(handover.finish, client.review)
            assert inside.wait(60)
            client.judge(0, "reject")
            second = pool.submit(handover.finish, client.review)
            time.sleep(0.1)
            go.set()
            assert first.result(60)["counts"]["accepted"] == 3
            assert second.result(60)["counts"]["accepted"] == 2
        assert reports == [[3, 3, 3], [2, 2, 2]]
        assert not (tmp_path / "review" / "view" / "compared").exists()


def test_the_command_trains_on_four_films(model, tmp_path):
    """Of this model's network, which is not the recipe's, and with the batch that fits."""
    truth = reviews.write_films(tmp_path / "films", 4)
    out = tmp_path / "my review"
    with reviews.open_client(models_of(model), [tmp_path / "films"], out) as client:
        client.wait()
        for i in range(4):
            assert client.save(i, truth[i]).status_code == 200
        command = client.http.post("/api/finish").json()["command"]
    assert f"--config.train.init_from={model.workdir} " in command
    assert "--config.train.batch_size=2 " in command  # as many train; the tests' two devices agree
    run_command(command, *SHORT, "--workdir", tmp_path / "run")
    jaxlung("predict", tmp_path / "films", "--model", tmp_path / "run", "--out", tmp_path / "new")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A review of three scans, in three orders of axes."""
    pytest.importorskip("nibabel")
    from jaxlung.predict.load import load
    from tests.helpers.ct_scans import AXES, affine_of, body, save

    root = tmp_path_factory.mktemp("scans")
    for i in range(3):
        hu, _ = body((40 + i, 36, 8))
        noise = np.random.default_rng(i).integers(-20, 20, hu.shape)
        save(root / "scans" / f"s{i}.nii.gz", hu + noise, affine_of(), AXES[i])
    models = Models(ct=load("ct", tta=False))
    with reviews.open_client(models, [root / "scans"], root / "review") as client:
        assert all(film["error"] is None for film in client.wait())
        yield client


def test_a_slice_is_corrected_on_the_scans_own_grid(scans):
    from tests.helpers.ct_scans import in_ras

    out, film = scans.review.store.out, scans.film(1)
    assert film["kind"] == "volume" and film["slices"] == 8 and film["bits"] == 16
    assert film["spacing"] == pytest.approx([2.0, 1.5])
    volume = scans.review.reader.volume(scans.of(1))
    pixels = scans.http.get(f"{scans.address(1)}/pixels?slice=3").content
    hu_HxW = np.frombuffer(pixels, "<u2").reshape(film["height"], film["width"])
    np.testing.assert_array_equal(hu_HxW.astype(int) - 1024, volume.voxels_ZxHxW[3])
    assert len(scans.http.get(f"{scans.address(1)}/probability?slice=3").content) == hu_HxW.size
    drawn = np.zeros(hu_HxW.shape, bool)
    drawn[4:9, 3:7] = True
    before = [scans.mask(1, z)[0] > 0 for z in range(8)]
    assert scans.save(1, drawn, z=3).json()["state"] == "corrected"
    np.testing.assert_array_equal(scans.mask(1, 3)[0] > 0, drawn)
    mask, affine = in_ras(out / "masks" / "s1.nii.gz")
    hu, image_affine = in_ras(out / "images" / "s1.nii.gz")
    np.testing.assert_allclose(affine, image_affine)
    source = scans.of(1).source.path
    np.testing.assert_array_equal(hu, in_ras(source)[0])
    # Slices are S, P, L: rows from front to back, columns from the patient's right to left.
    in_slices = mask.transpose(2, 1, 0)[:, ::-1, ::-1]
    for z in range(8):
        np.testing.assert_array_equal(in_slices[z] > 0, drawn if z == 3 else before[z])
    assert scans.http.get(f"{scans.address(1)}/mask?slice=8").status_code == 404
    stored = nibabel_header(out / "masks" / "s1.nii.gz")
    assert stored.get_data_shape() == nibabel_header(source).get_data_shape()


def nibabel_header(path):
    import nibabel

    return nibabel.load(path).header


@pytest.fixture(scope="module")
def scans_command(scans):
    """What the page shows once a blob is drawn on each scan."""
    for i in range(3):
        blob = scans.mask(i, 4)[0] > 0
        blob[5:20, 5:12] = True
        assert scans.save(i, blob, z=4).status_code == 200
    finished = scans.http.post("/api/finish")
    assert finished.status_code == 200, finished.text
    return finished.json()["command"]


def test_the_command_is_ready_to_train_on_scans(scans_command, tmp_path):
    """Its settings, network and data pass all that training checks before it begins."""
    from jaxlung.cli.flags import read_config
    from jaxlung.train.data import prepare_data
    from jaxlung.train.run import check_run

    arguments = shlex.split(scans_command)
    assert arguments[:4] == ["jaxlung", "train", "--config", "ct"]
    settings = [one for one in arguments if one.startswith("--config.")]
    config = read_config("ct", [*settings, "--config.data.loader=memory"])
    check_run(config, tmp_path / "run")
    canvases = prepare_data(config).canvases
    assert sorted(len(one.split.ids) for one in canvases.values()) == [8, 8, 8]


@pytest.mark.slow
def test_the_command_trains_on_scans(scans_command, tmp_path):
    small = ["--config.data.size=32", "--config.train.batch_size=2"]
    run_command(scans_command, *SHORT, *small, "--workdir", tmp_path / "run")


@pytest.mark.parametrize("count", [3, 4, 7, 10, 30, 200])
def test_no_split_is_empty_whoever_the_patients_are(count):
    for seed in range(5):
        patients = {f"film_{i}": f"patient {seed} {i // 2}" for i in range(2 * count)}
        shares = choose_shares(patients)
        assert shares and all(0.001 <= share <= 0.999 for share in shares)
        splits = split_by_hash(list(patients), patients.__getitem__, *shares)
        assert all(splits.values())
        if count == 200:
            assert shares == (0.1, 0.2)  # the usual ones


def test_two_patients_are_too_few():
    assert choose_shares({"a": "x", "b": "y", "c": "y"}) is None
