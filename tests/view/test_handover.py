"""The end of a review: its report, and a command that trains on what was written."""

import shlex

import numpy as np
import pytest

from jaxlung.data.splitting import split_by_hash
from jaxlung.predict.batch.models import Models, models_of
from jaxlung.view.handover import choose_shares
from tests.helpers import forked_commands, reviews
from tests.helpers.predict_command import jaxlung


def run_command(command, *further):
    """Runs what the page shows in a process of its own, with some settings more."""
    program, *arguments = shlex.split(command)
    assert program == "jaxlung"
    place = arguments.index("--workdir")
    done = forked_commands.run("-m", "jaxlung", *arguments[:place], *further)
    assert done.returncode == 0, done.stderr


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


def test_the_command_trains_on_three_films(model, tmp_path):
    """Of this model's network, which is not the recipe's, and with the batch that fits."""
    truth = reviews.write_films(tmp_path / "films", 3)
    out = tmp_path / "my review"
    with reviews.open_client(models_of(model), [tmp_path / "films"], out) as client:
        client.wait()
        for i in range(3):
            assert client.save(i, truth[i]).status_code == 200
        command = client.http.post("/api/finish").json()["command"]
    assert f"--config.train.init_from={model.workdir}" in command
    run_command(command, *SHORT, "--workdir", tmp_path / "run")
    jaxlung("predict", tmp_path / "films", "--model", tmp_path / "run", "--out", tmp_path / "new")


def test_the_command_trains_on_scans(tmp_path):
    pytest.importorskip("nibabel")
    from jaxlung.predict.load import load
    from tests.helpers.ct_scans import AXES, affine_of, body, in_ras, save

    for i in range(3):
        hu, lungs = body((40 + i, 36, 8))
        noise = np.random.default_rng(i).integers(-20, 20, hu.shape)
        save(tmp_path / "scans" / f"s{i}.nii.gz", hu + noise, affine_of(), AXES[i])
    out = tmp_path / "review"
    ct = load("ct", tta=False)
    with reviews.open_client(Models(ct=ct), [tmp_path / "scans"], out) as client:
        assert all(film["error"] is None for film in client.wait())
        film = client.film(1)
        assert film["kind"] == "volume" and film["slices"] == 8 and film["bits"] == 16
        assert film["spacing"] == pytest.approx([2.0, 1.5])
        volume = client.review.reader.volume(client.review.films[1])
        pixels = client.http.get("/api/films/1/pixels?slice=3").content
        hu_HxW = np.frombuffer(pixels, "<u2").reshape(film["height"], film["width"])
        np.testing.assert_array_equal(hu_HxW.astype(int) - 1024, volume.voxels_ZxHxW[3])
        assert len(client.http.get("/api/films/1/probability?slice=3").content) == hu_HxW.size
        # A slice is corrected on the scan's own grid, whatever its order of axes.
        drawn = np.zeros(hu_HxW.shape, bool)
        drawn[4:9, 3:7] = True
        before = [client.mask(1, z)[0] > 0 for z in range(8)]
        assert client.save(1, drawn, z=3).json()["state"] == "corrected"
        np.testing.assert_array_equal(client.mask(1, 3)[0] > 0, drawn)
        mask, affine = in_ras(out / "masks" / "s1.nii.gz")
        hu, image_affine = in_ras(out / "images" / "s1.nii.gz")
        np.testing.assert_allclose(affine, image_affine)
        np.testing.assert_array_equal(hu, in_ras(tmp_path / "scans" / "s1.nii.gz")[0])
        # Slices are S, P, L: rows from front to back, columns from the patient's right to left.
        in_slices = mask.transpose(2, 1, 0)[:, ::-1, ::-1]
        for z in range(8):
            np.testing.assert_array_equal(in_slices[z] > 0, drawn if z == 3 else before[z])
        assert client.http.get("/api/films/1/mask?slice=8").status_code == 404
        for i in (0, 2):
            blob = client.mask(i, 4)[0] > 0
            blob[5:20, 5:12] = True
            client.save(i, blob, z=4)
        finished = client.http.post("/api/finish")
        assert finished.status_code == 200, finished.text
        command = finished.json()["command"]
    assert command.startswith("jaxlung train --config ct --config.data.name=ct ")
    small = ["--config.data.size=32", "--config.train.batch_size=2"]
    run_command(command, *SHORT, *small, "--workdir", tmp_path / "run")


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
