"""`jaxlung score` on folders of volumes: whole scans in mm, from files in any orientation."""

import csv
import json

import numpy as np
import pytest

from jaxlung import metrics
from jaxlung.cli import main
from jaxlung.errors import InputError
from jaxlung.evaluation.mask_scores import score
from tests.helpers.ct_scans import AXES, affine_of, body, nibabel, save

SIDES = (1.5, 2.0, 3.0)  # mm of a voxel, along R, A and S


def scan(i):
    """Voxels in R, A, S order: a scan, its lungs, and these moved by i voxels to the front."""
    hu, lungs = body((24 + i, 20, 7 + i))
    return hu, lungs, np.roll(lungs, i, axis=1)


@pytest.fixture
def folders(tmp_path):
    for i in range(3):
        hu, truth, prediction = scan(i)
        save(tmp_path / "truth" / f"s{i}.nii.gz", truth, affine_of(SIDES), AXES[i])
        save(tmp_path / "pred" / f"s{i}_mask.nii.gz", prediction * 3, affine_of(SIDES), AXES[i])
        save(tmp_path / "images" / f"s{i}.nii", hu, affine_of(SIDES))
    return tmp_path


def run(folders, **options):
    out = folders / "out"
    [entry] = score(folders / "pred", folders / "truth", out, **options)["results"]
    with (out / "per_volume.csv").open() as file:
        return entry, list(csv.DictReader(file))


def dice_of(truth, prediction):
    return 2 * (truth & prediction).sum() / (truth.sum() + prediction.sum())


def test_scores_are_those_of_the_whole_volumes(folders):
    entry, rows = run(folders, images=folders / "images")
    dices = []
    for i, row in enumerate(rows):
        _, truth, prediction = scan(i)
        distances = metrics.surface_distances(prediction, truth, SIDES)
        expected = {
            "dice": dice_of(truth, prediction),
            "iou": (truth & prediction).sum() / (truth | prediction).sum(),
            "hd95_mm": metrics.hausdorff(distances, 95),
            "assd_mm": metrics.assd(distances),
            "nsd_mm": metrics.nsd(distances, 2.0),
        }
        found = {name: float(row[name]) for name in expected}
        assert found == pytest.approx(expected, abs=1e-6)
        assert (row["id"], row["slices"]) == (f"s{i}", str(7 + i))
        dices.append(expected["dice"])
    assert dices[0] == 1 > dices[1] > dices[2]
    figures = entry["volumes"]["per_volume"]["dice"]
    assert entry["volumes"]["n"] == figures["n"] == 3
    assert figures["mean"] == pytest.approx(np.mean(dices))
    assert figures["sd"] == pytest.approx(np.std(dices, ddof=1))
    # An image is a slice, as in `jaxlung eval`.
    assert entry["n"] == 7 + 8 + 9 and entry["patients"] == 3
    assert entry["grids"]["original"]["per_image"]["hd95_px"]["n"] == 24
    page = (folders / "out" / "report.html").read_text()
    assert "Whole volumes, 3: per-volume means" in page and "<td>s2</td>" in page


@pytest.mark.parametrize("axes", ["LPS", "SPL"])
def test_another_orientation_of_the_same_grid_changes_nothing(folders, axes):
    before = run(folders)[1]
    _, _, prediction = scan(2)
    save(folders / "pred" / "s2_mask.nii.gz", prediction, affine_of(SIDES), axes)
    assert run(folders, overwrite=True)[1] == before


def test_a_missing_prediction_scores_the_worst_of_the_volume(folders):
    (folders / "pred" / "s1_mask.nii.gz").unlink()
    entry, rows = run(folders)
    row = rows[1]
    assert row["dice"] == row["nsd_mm"] == "0.000000"
    diagonal = np.linalg.norm(np.multiply((25, 20, 8), SIDES))
    assert float(row["hd95_mm"]) == pytest.approx(diagonal, abs=1e-6)
    assert entry["flags"]["missing"] == 8  # its slices
    assert "1 of 3 volumes have no prediction" in entry["warnings"][0]


def test_lungs_apart_by_their_labels(folders):
    for i in range(3):
        _, truth, prediction = scan(i)
        right = np.arange(len(truth))[:, None, None] > len(truth) // 2
        for folder, mask in (("truth/s", truth), ("pred/s", prediction)):
            name = f"{folder}{i}{'_mask' if folder == 'pred/s' else ''}.nii.gz"
            save(folders / name, np.where(right, 1, 2) * mask, affine_of(SIDES))
    _, rows = run(folders, sides=True)
    _, truth, prediction = scan(2)
    own = np.arange(len(truth))[:, None, None] > len(truth) // 2
    assert float(rows[2]["dice_right"]) == pytest.approx(dice_of(truth & own, prediction & own))
    with pytest.raises(InputError, match=r"s0.*labels up to 3; --sides"):
        save(folders / "pred" / "s0_mask.nii.gz", scan(0)[2] * 3, affine_of(SIDES))
        run(folders, sides=True, overwrite=True)


def test_a_default_header_has_no_distances_in_mm_unless_told(folders):
    for folder, name in (("truth", "s0"), ("pred", "s0_mask")):
        save(folders / folder / f"{name}.nii.gz", scan(0)[1], np.eye(4))
    entry, rows = run(folders)
    assert rows[0]["hd95_mm"] == "" and rows[0]["dice"] == "1.000000" and rows[1]["hd95_mm"]
    assert "1 of 3 volumes do not tell their spacing" in entry["warnings"][0]
    assert entry["volumes"]["per_volume"]["hd95_mm"]["n"] == 2
    entry, rows = run(folders, spacing_mm=2.0, overwrite=True)
    assert rows[0]["hd95_mm"] == "0.000000" and entry["warnings"] == []


def test_raw_volumes_and_what_predict_writes_beside_masks(folders):
    """The grid decides, not the format."""
    _, truth, prediction = scan(1)
    (folders / "pred" / "s1_mask.nii.gz").unlink()
    header = (
        "NRRD0004\ntype: uint8\ndimension: 3\nspace: right-anterior-superior\n"
        "sizes: 25 20 8\nspace directions: (1.5,0,0) (0,2,0) (0,0,3)\n"
        "space origin: (10,-20,5)\nendian: little\nencoding: raw\n\n"
    )
    voxels = prediction.astype(np.uint8).tobytes(order="F")
    (folders / "pred" / "s1.nrrd").write_bytes(header.encode() + voxels)
    (folders / "pred" / "s1_overlay.png").write_bytes(b"")
    save(folders / "pred" / "s1_probability.nii.gz", truth, affine_of(SIDES))
    _, rows = run(folders)
    assert float(rows[1]["dice"]) == pytest.approx(dice_of(truth, prediction), abs=1e-6)


def other_shape(folders):
    save(folders / "pred" / "s1_mask.nii.gz", scan(2)[1], affine_of(SIDES))


def other_place(folders):
    affine = affine_of(SIDES, (10.0, -20.0, 8.0))  # by one slice
    save(folders / "pred" / "s1_mask.nii.gz", scan(1)[1], affine)


def lost_header(folders):
    save(folders / "pred" / "s1_mask.nii.gz", scan(1)[1], np.eye(4))


def other_scan(folders):
    save(folders / "images" / "s1.nii", scan(2)[0], affine_of(SIDES))


def fractions(folders):
    image = nibabel.Nifti1Image(np.full((25, 20, 8), 0.3, np.float32), affine_of(SIDES))
    nibabel.save(image, folders / "pred" / "s1_mask.nii.gz")


def unknown_id(folders):
    save(folders / "pred" / "s9.nii.gz", scan(1)[1], affine_of(SIDES))


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (other_shape, ["pred/s1_mask.nii.gz", "truth/s1.nii.gz", "another grid"]),
        (other_place, ["pred/s1_mask.nii.gz", "another grid"]),
        (lost_header, ["pred/s1_mask.nii.gz", "another grid", "mend its header"]),
        (other_scan, ["truth/s1.nii.gz", "images/s1.nii", "another grid"]),
        (fractions, ["pred/s1_mask.nii.gz", "fractions"]),
        (unknown_id, ["pred/s9.nii.gz", "no true mask s9.nii.gz"]),
    ],
)
def test_wrong_volumes_are_one_line_that_names_the_file(folders, break_it, words, capsys):
    break_it(folders)
    names = ("pred", "truth", "images", "out")
    with pytest.raises(SystemExit) as stop:
        main(["score", *(f"--{name}={folders / name}" for name in names)])
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    for word in words:
        assert word in line
    assert not (folders / "out" / "metrics.json").exists()


def test_the_command_names_volumes_apart_from_slices(folders, capsys):
    main(["score", *(f"--{name}={folders / name}" for name in ("pred", "truth", "out"))])
    printed = capsys.readouterr().out
    slices, _, volumes = printed.partition("whole volumes, 3 ")
    assert "original grid, slices" in slices and "HD95 (px)" in slices
    assert "HD95 (mm)" in volumes and "(px)" not in volumes and "per_volume.csv" in volumes
    assert json.loads((folders / "out" / "metrics.json").read_text())["results"][0]["volumes"]
