"""`jaxlung predict` with the bundled model on a scan as hospitals and tools leave it.

Each copy of one simulated chest gives the same mask in the patient, with a warning where something
had to be assumed, or is refused in one line. The parts have tests of their own: test_hounsfield.py
has every padding, test_series.py every fault of a series, test_volumes.py every order of axes.
"""

import csv
import json

import numpy as np
import pytest

from jaxlung.gate import image as gate_image
from jaxlung.gate.image import WORDS
from jaxlung.io.ct.hounsfield import apply_window
from jaxlung.io.images import write_png
from tests.helpers.ct_scans import affine_of, body, in_ras, nibabel, save
from tests.helpers.predict_command import predict

pydicom = pytest.importorskip("pydicom", reason='pip install -e ".[ct]"')

from tests.helpers.drawn_files import (  # noqa: E402
    chest,
    new_dataset,
    save_dataset,
    write_series,
)

SHAPE = (48, 40, 8)
VOXEL = (6.0, 6.5, 30.0)  # mm, with which the lungs hold a plausible volume
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def edit(folder, **fields):
    """Sets fields of each slice, or deletes those that are None; a function gets the index."""
    for i, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        dataset = pydicom.dcmread(path)
        for name, value in fields.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value(i) if callable(value) else value)
        dataset.save_as(path)
    return folder


def write_scan(folder):
    """A series with the voxels of VOXEL, its files' names against the positions."""
    write_series(folder, chest(SHAPE)[0])
    places = {"PixelSpacing": [VOXEL[1], VOXEL[0]]}
    return edit(folder, ImagePositionPatient=lambda i: [0.0, 0.0, VOXEL[2] * i], **places)


def write_extras(folder):
    """What a PACS puts beside the slices: a scout, dose reports, and a DICOMDIR in lower case."""
    slices = sorted(folder.iterdir())
    scout = pydicom.dcmread(slices[0])
    scout.ImageType, scout.SOPInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], "1.2.3"
    scout.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    save_dataset(folder / "scout.dcm", scout)
    dose = pydicom.dcmread(slices[0])
    dose.SOPClassUID = dose.file_meta.MediaStorageSOPClassUID = CAPTURE
    del dose.ImagePositionPatient
    save_dataset(folder / "dose.dcm", dose)
    report = "1.2.840.10008.5.1.4.1.1.88.67"  # X-Ray Radiation Dose SR
    save_dataset(folder / "report.dcm", new_dataset(report, 901, Modality="SR"))
    save_dataset(folder / "dicomdir", new_dataset("1.2.840.10008.1.3.10", 902))


def odd_words(row):
    """The warnings, less that the model is unsure of a chest as coarse as this one."""
    return [words for words in row["warnings"] if not words.startswith("the outlines are")]


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Rows by name, their folder, the message of what failed, and what was passed over."""
    scans, out = (tmp_path_factory.mktemp(name) for name in ("scans", "out"))
    hu, _ = body(SHAPE)
    offset = hu + 1024
    padded = np.where(np.hypot(*np.mgrid[-1:1:48j, -1:1:40j])[..., None] > 1, -2048, offset)
    for name, voxels, affine, axes in (
        ("plain", hu, affine_of(VOXEL), "RAS"),
        ("lps", hu, affine_of(VOXEL), "LPS"),
        ("flipped", hu, affine_of(VOXEL), "RAI"),
        ("offset", offset, affine_of(VOXEL), "RAS"),
        ("offset_padded", padded, affine_of(VOXEL), "RAS"),
        ("identity", hu, np.eye(4), "RAS"),
        ("half", hu[..., :4], affine_of(VOXEL), "RAS"),
    ):
        save(scans / f"{name}.nii.gz", voxels, affine, axes)
    write_scan(scans / "series")
    edit(write_scan(scans / "no_intercept"), RescaleIntercept=None, RescaleSlope=None)
    write_extras(write_scan(scans / "extras"))
    for name, missing in (("middle_missing", slice(2, 6)), ("end_missing", slice(4, 8))):
        for path in sorted(write_scan(scans / name).iterdir())[missing]:
            path.unlink()
    predict(scans, "--out", out, "--no-tta", "--no-overlay", code=1)
    summary = json.loads((out / "summary.json").read_text())
    return {row["name"]: row for row in summary["images"]}, out, summary["passed_over"]


def lungs(out, name):
    return in_ras(out / f"{name}.nii.gz")[0] > 0


def test_the_bundled_model_finds_the_lungs(odd):
    rows, out, _ = odd
    found, truth = lungs(out, "plain"), body(SHAPE)[1]
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9
    assert odd_words(rows["plain"]) == [] and rows["plain"]["model"] == "ct"
    assert rows["plain"]["lung_ml"] == pytest.approx(found.sum() * np.prod(VOXEL) / 1000, abs=0.1)


@pytest.mark.parametrize("name", ["lps", "flipped", "series", "extras"])
def test_another_order_of_axes_slices_or_files_changes_nothing(odd, name):
    rows, out, _ = odd
    np.testing.assert_array_equal(lungs(out, name), lungs(out, "plain"))
    assert odd_words(rows[name]) == []
    for field in ("lung_ml", "right_ml", "left_ml", "mean_hu"):
        assert rows[name][field] == pytest.approx(rows["plain"][field], abs=0.1)


@pytest.mark.parametrize("name", ["offset", "offset_padded", "no_intercept"])
def test_a_lost_intercept_is_named_and_applied(odd, name):
    rows, out, _ = odd
    # Padding below the window is black, where air is almost so.
    assert (lungs(out, name) != lungs(out, "plain")).mean() <= 0.001 * ("padded" in name)
    [warning] = odd_words(rows[name])
    assert warning.startswith("not in Hounsfield units: 1024 was subtracted, as its air lies near")
    assert rows[name]["mean_hu"] == pytest.approx(rows["plain"]["mean_hu"], abs=3)


def test_an_identity_affine_is_warned_of_and_nothing_is_said_in_ml(odd):
    rows, out, _ = odd
    np.testing.assert_array_equal(lungs(out, "identity"), lungs(out, "plain"))
    assert rows["identity"]["warnings"][0] == "default header: spacing and sides unsure"
    assert {rows["identity"][f] for f in ("lung_ml", "right_ml", "left_ml", "right_px")} == {None}


def test_slices_missing_in_the_middle_are_refused(odd):
    rows, out, _ = odd
    assert rows["middle_missing"]["status"] == "failed"
    assert "slices lie 30 to 150 mm apart" in rows["middle_missing"]["error"]
    assert "some are missing" in rows["middle_missing"]["error"]
    assert "\n" not in rows["middle_missing"]["error"]
    assert not (out / "middle_missing.nii.gz").exists()


@pytest.mark.parametrize(
    ("name", "words", "part"),
    [
        ("half", "above the highest", slice(0, 4)),
        ("end_missing", "below the lowest", slice(4, 8)),
    ],
)
def test_slices_missing_at_an_end_are_told_by_the_lungs(odd, name, words, part):
    """No position tells that a series goes on; lungs that end with it do."""
    rows, out, _ = odd
    cut = f"cut off: the lungs go on {words} slice, and their volume is that of a part"
    assert cut in rows[name]["warnings"]
    found, whole = lungs(out, name), lungs(out, "plain")[..., part]
    assert found.shape == whole.shape and (found != whole).mean() < 0.01


def test_a_tilted_gantry_is_resampled_where_it_is_asked_for(tmp_path):
    """The mask lies on the resampled scan, at right angles, and has the volume of the other."""
    tilt, out = np.radians(15), tmp_path / "out"
    down = [1, 0, 0, 0, float(np.cos(tilt)), float(-np.sin(tilt))]
    edit(write_scan(tmp_path / "tilted"), ImageOrientationPatient=down)
    command = [tmp_path / "tilted", "--out", out, "--no-tta", "--no-overlay", "--slices"]
    predict(*command, "--resample")
    [row] = json.loads((out / "summary.json").read_text())["images"]
    assert odd_words(row) == ["tilted gantry: resampled to slices at right angles"]
    mask, scan = (nibabel.load(out / f"tilted{end}.nii.gz") for end in ("", "_resampled"))
    np.testing.assert_array_equal(mask.affine, scan.affine)
    assert mask.shape == scan.shape and scan.shape[1] > SHAPE[1]
    axes = mask.affine[:3, :3] / np.linalg.norm(mask.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    inside = np.asanyarray(mask.dataobj) > 0
    assert np.asanyarray(scan.dataobj)[inside].mean() == pytest.approx(row["mean_hu"], abs=0.1)
    voxel = np.prod(VOXEL) * np.cos(tilt)
    assert row["lung_ml"] == pytest.approx(inside.sum() * voxel / 1000, abs=0.1)
    assert row["lung_ml"] == pytest.approx(body(SHAPE)[1].sum() * voxel / 1000, rel=0.15)
    with (out / "tilted_slices.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert sum(int(line["lung_px"]) for line in lines) == row["lung_px"] == inside.sum()
    heights = [float(line["height_mm"]) for line in lines]
    np.testing.assert_allclose(np.diff(heights), VOXEL[2] * np.cos(tilt) ** 2, atol=1e-2)
    # It is known as done, and its absence as not.
    before = (out / "tilted.nii.gz").stat().st_mtime_ns
    predict(*command, "--resample", "--resume")
    assert (out / "tilted.nii.gz").stat().st_mtime_ns == before
    (out / "tilted_resampled.nii.gz").unlink()
    predict(*command, "--resample", "--resume")
    assert (out / "tilted_resampled.nii.gz").exists()
    predict(*command, "--resume", code=2)  # the masks would lie on another grid


def test_a_negative_of_a_slice_is_turned_over(tmp_path, monkeypatch):
    monkeypatch.setattr(gate_image, "_judge", lambda *_: ({"ct": 1.0}, True))
    shown = apply_window(body((96, 80, 5))[0][:, ::-1, 2].T, -1350, 150)
    write_png(tmp_path / "slice.png", shown)
    write_png(tmp_path / "negative.png", 255 - shown)
    pictures = [tmp_path / "slice.png", tmp_path / "negative.png"]
    predict(*pictures, "--model", "ct", "--out", tmp_path / "out", "--no-tta")
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())["images"]
    assert [row["warnings"] for row in rows] == [[], [WORDS["inverted"]]]
    masks = [(tmp_path / "out" / f"{row['name']}.png").read_bytes() for row in rows]
    assert masks[0] == masks[1] and rows[0]["lung_px"] > 0
    overlays = [(tmp_path / "out" / f"{row['name']}_overlay.png").read_bytes() for row in rows]
    assert overlays[0] == overlays[1]


def test_files_that_are_no_slices_are_counted(odd):
    _, _, passed_over = odd
    assert passed_over == {
        **{"localizer": 1, "screenshot": 1, "DICOM without image": 1, "DICOMDIR": 1}
    }
