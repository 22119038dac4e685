"""`jaxlung score`: masks of any tool against true ones, from files to a report."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxlung import metrics
from jaxlung.cli import main
from jaxlung.errors import InputError
from jaxlung.evaluation.mask_files import match_masks
from jaxlung.evaluation.mask_scores import score
from jaxlung.metrics.image import Tolerance

ROOT = Path(__file__).parents[2]


def save(path, mask, value=255):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(mask).astype(np.uint8) * np.uint8(value)).save(path)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """True masks a to d, and predictions shifted by 0 to 3 pixels."""
    root = tmp_path_factory.mktemp("clean")
    for i, name in enumerate("abcd"):
        mask = np.zeros((64, 64), bool)
        mask[14 - i : 50, 8:28], mask[14 : 50 + i, 36:56] = True, True
        film = np.where(mask, 60, 180) + np.random.default_rng(i).integers(-30, 30, mask.shape)
        save(root / "truth" / f"{name}.png", mask)
        save(root / "pred" / f"{name}_mask.png", np.roll(mask, i, axis=1), 1)
        save(root / "images" / f"{name}.png", film, 1)
    return root


@pytest.fixture
def folders(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "scored")


def run(folders, **options):
    return score(folders / "pred", folders / "truth", folders / "out", **options)


def rows(folders):
    with (folders / "out" / "per_image.csv").open() as file:
        return list(csv.DictReader(file))


def test_scores_are_those_of_the_metrics(folders):
    result = run(folders, images=folders / "images", spacing_mm=0.7)
    [entry] = result["results"]
    assert (entry["n"], entry["model"], entry["set"]) == (4, "pred", "truth")
    assert entry["calibration"] is None and set(entry["grids"]) == {"original"}
    for row in rows(folders):
        truth = np.asarray(Image.open(folders / "truth" / f"{row['id']}.png")) > 0
        prediction = np.asarray(Image.open(folders / "pred" / f"{row['id']}_mask.png")) > 0
        counts = metrics.count_pixels(prediction[None], truth[None])
        assert float(row["dice_original"]) == pytest.approx(metrics.dice(counts)[0], abs=1e-6)
        distances = metrics.surface_distances(prediction, truth, (0.7, 0.7))
        assert float(row["assd_mm_original"]) == pytest.approx(metrics.assd(distances), abs=1e-6)
    assert rows(folders)[0]["dice_original"] == "1.000000"
    assert float(rows(folders)[3]["dice_original"]) < float(rows(folders)[1]["dice_original"]) < 1


def test_names_match_after_normalisation(tmp_path):
    for folder, stem in (("pred", "Mu\u0308ller_mask"), ("truth", "M\u00fcller")):
        (tmp_path / folder).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / folder / f"{stem}.png")
    [files] = match_masks(tmp_path / "pred", tmp_path / "truth", None)
    assert files.id == "M\u00fcller" and files.prediction is not None


def test_a_missing_prediction_is_a_failure(folders):
    (folders / "pred" / "b_mask.png").unlink()
    [entry] = run(folders)["results"]
    assert entry["n"] == 4 and entry["flags"]["missing"] == 1 and entry["flags"]["empty"] == 0
    [missing] = [row for row in rows(folders) if row["id"] == "b"]
    assert missing["flags"] == "missing low_dice"
    assert (missing["dice_original"], missing["nsd_px_original"]) == ("0.000000", "0.000000")
    assert float(missing["hd95_px_original"]) == pytest.approx(64 * np.sqrt(2), abs=1e-5)
    assert "1 of 4 images have no prediction" in entry["warnings"][0]
    assert entry["grids"]["original"]["per_image"]["dice"]["min"] == 0


@pytest.mark.parametrize("lung", [False, True])
def test_a_missing_prediction_never_scores(folders, lung):
    """An empty mask of an image without lung is right; no mask at all is a failure all the same."""
    if not lung:
        save(folders / "truth" / "b.png", np.zeros((64, 64)))
        save(folders / "pred" / "b_mask.png", np.zeros((64, 64)))
        [entry] = score(folders / "pred", folders / "truth", folders / "right")["results"]
        assert entry["grids"]["original"]["per_image"]["dice"]["min"] > 0.5
    (folders / "pred" / "b_mask.png").unlink()
    run(folders, spacing_mm=0.5)
    [missing] = [row for row in rows(folders) if row["id"] == "b"]
    for name, value in missing.items():
        metric = name.split("_")[0]
        if name.endswith("_original") and value and metric not in ("tp", "fp", "fn", "tn"):
            side = 0.5 if "_mm" in name else 1.0
            worst = 64 * np.sqrt(2) * side if metric in ("hd", "hd95", "assd") else 0.0
            assert float(value) == pytest.approx(worst, abs=1e-5), name


def test_provenance_of_masks(folders):
    """The hash names the predictions, the fingerprint the truth."""
    first = run(folders)
    save(folders / "pred" / "d_mask.png", np.ones((64, 64)), 1)
    second = score(folders / "pred", folders / "truth", folders / "again")
    hashes = [result["models"]["pred"]["masks_sha256"] for result in (first, second)]
    assert hashes[0] != hashes[1]
    assert first["results"][0]["fingerprint"] == second["results"][0]["fingerprint"]


def test_spacing_of_the_command_wins_over_metadata(folders):
    (folders / "m.csv").write_text("id,spacing_mm\na,0.1\nb,0.2\nc,0.3\nd,0.4\n")
    run(folders, metadata=folders / "m.csv")
    for row, side in zip(rows(folders), (0.1, 0.2, 0.3, 0.4), strict=True):
        px, mm = float(row["hd_px_original"]), float(row["hd_mm_original"])
        assert mm == pytest.approx(side * px, abs=1e-5)
    run(folders, metadata=folders / "m.csv", spacing_mm=2.0, overwrite=True)
    assert float(rows(folders)[3]["hd_mm_original"]) == pytest.approx(
        2 * float(rows(folders)[3]["hd_px_original"]), abs=1e-5
    )


def test_no_name_of_a_patient_gets_into_a_report(folders):
    (folders / "m.csv").write_text(
        "id,patient,sex,name,birth_date,mrn\n"
        "a,Doe,F,Jane,1950-01-01,77\nb,Doe,F,Jane,1950-01-01,77\n"
        "c,Roe,M,Rick,1960-02-02,88\nd,Roe,M,Rick,1960-02-02,88\n"
    )
    [entry] = run(folders, metadata=folders / "m.csv")["results"]
    assert set(entry["subgroups"]) == {"sex"} and entry["patients"] == 2
    for path in (folders / "out").iterdir():
        for secret in ("Doe", "Jane", "1950-01-01", "Roe", "Rick"):
            assert secret not in path.read_text(), (path.name, secret)


def test_names_and_metadata_of_the_usual_layout(folders):
    """DIR/masks is called DIR, and DIR/metadata.csv is read as eval.py and train.py read it."""
    home = folders / "hospital"
    shutil.copytree(folders / "truth", home / "masks")
    (home / "metadata.csv").write_text("id,patient\na,1\nb,1\nc,2\nd,2\n")
    [entry] = score(folders / "pred", home / "masks", folders / "out")["results"]
    assert (entry["set"], entry["patients"]) == ("hospital", 2)


def test_sides_from_labels(folders):
    """Masks that swap the lungs overlap as a whole, and not lung by lung."""
    for name in "abcd":
        truth = np.asarray(Image.open(folders / "truth" / f"{name}.png")) > 0
        labels = np.where(np.arange(64) < 32, 1, 2) * truth
        save(folders / "labels" / f"{name}.png", labels, 1)
        save(folders / "swapped" / f"{name}.png", np.where(labels > 0, 3 - labels, 0), 1)
    [same] = score(folders / "labels", folders / "labels", folders / "same", sides=True)["results"]
    [swap] = score(folders / "swapped", folders / "labels", folders / "swap", sides=True)["results"]
    for entry, dice in ((same, 1.0), (swap, 0.0)):
        per_image = entry["grids"]["original"]["per_image"]
        assert per_image["dice"]["mean"] == 1.0
        assert per_image["dice_right"]["mean"] == per_image["dice_left"]["mean"] == dice
        assert per_image["dice_right"]["n"] == 4


def test_overlays_of_predict_are_passed_over(folders, workdir):
    """What `jaxlung predict` writes can be scored as it is."""
    out = folders / "predicted"
    images = [str(folders / "images" / f"{name}.png") for name in "abcd"]
    main(["predict", *images, "--probabilities", "--workdir", str(workdir), "--out", str(out)])
    assert len(list(out.glob("*.png"))) == 12
    main(
        [
            "score",
            "--pred",
            str(out),
            "--truth",
            str(folders / "truth"),
            "--out",
            str(folders / "out"),
            "--images",
            str(folders / "images"),
        ]
    )
    result = json.loads((folders / "out" / "metrics.json").read_text())["results"][0]
    assert result["n"] == 4 and result["flags"]["missing"] == 0


def test_metadata_groups_and_patients(folders):
    (folders / "m.csv").write_text("id,patient,view\na,1,PA\nb,1,PA\nc,2,AP\nd,3,AP\n")
    [entry] = run(folders, metadata=folders / "m.csv")["results"]
    assert entry["patients"] == 3
    assert {name: group["n"] for name, group in entry["subgroups"]["view"].items()} == {
        "AP": 2,
        "PA": 2,
    }
    assert "patient" not in entry["subgroups"]
    assert [row["patient"] for row in rows(folders)] == list("0012")


def three_values(folders):
    mask = np.zeros((64, 64), np.uint8)
    mask[:9], mask[9:20] = 255, 128
    save(folders / "pred" / "b_mask.png", mask, 1)


def other_size(folders):
    save(folders / "pred" / "c_mask.png", np.ones((64, 63)))


def unknown_id(folders):
    save(folders / "pred" / "e.png", np.ones((64, 64)))


def damaged(folders):
    path = folders / "truth" / "d.png"
    path.write_bytes(path.read_bytes()[:60])


def twice(folders):
    save(folders / "pred" / "a.png", np.ones((64, 64)))


def no_image(folders):
    (folders / "images" / "d.png").unlink()


def image_of_another_size(folders):
    save(folders / "images" / "d.png", np.ones((10, 10)))


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (three_values, ["pred/b_mask.png", "0, 128, 255"]),
        (other_size, ["pred/c_mask.png", "64x63", "64x64", "truth/c.png"]),
        (unknown_id, ["pred/e.png", "no true mask"]),
        (damaged, ["truth/d.png"]),
        (twice, ["one image"]),
        (no_image, ["truth/d.png", "images"]),
        (image_of_another_size, ["images/d.png", "10x10", "64x64"]),
    ],
)
def test_wrong_input_is_one_line_that_names_the_file(folders, break_it, words, capsys):
    break_it(folders)
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "score",
                "--pred",
                str(folders / "pred"),
                "--truth",
                str(folders / "truth"),
                "--images",
                str(folders / "images"),
                "--out",
                str(folders / "out"),
            ]
        )
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    for word in words:
        assert word in line
    assert not (folders / "out" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"spacing_mm": -1.0}, "--spacing-mm"),
        ({"metadata": "nowhere.csv"}, "nowhere.csv"),
        ({"images": "nowhere"}, "nowhere"),
        ({"tolerance": Tolerance(-1.0, 2.0)}, "tolerance"),
        ({"tolerance": Tolerance(2.0, float("nan"))}, "tolerance"),
    ],
)
def test_wrong_options(folders, options, word):
    with pytest.raises(InputError, match=word):
        run(folders, **options)
    assert not (folders / "out").exists()


def test_folders_that_have_nothing_in_common(folders):
    save(folders / "x" / "zzz.png", np.ones((4, 4)))
    with pytest.raises(InputError, match="no true mask"):
        score(folders / "x", folders / "truth", folders / "out")
    with pytest.raises(InputError, match="nowhere"):
        score(folders / "nowhere", folders / "truth", folders / "out")


def test_command_says_one_line_and_writes_a_report(folders, capsys):
    arguments = ["score"]
    for name in ("pred", "truth", "out"):
        arguments += [f"--{name}", str(folders / name)]
    command = [sys.executable, "-m", "jaxlung", *arguments]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0 and done.stderr == ""
    assert "HD95 (px)" in done.stdout and "95 % CI" in done.stdout
    files = {path.name for path in (folders / "out").iterdir()}
    assert files == {"metrics.json", "per_image.csv", "report.html"}
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and len(error.splitlines()) == 1 and "--overwrite" in error
