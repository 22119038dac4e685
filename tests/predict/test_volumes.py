"""A model of CT: from scans to masks, and what is said of odd ones."""

import csv
import dataclasses
import importlib.util
import json

import numpy as np
import pytest

from jaxlung.cli import main
from jaxlung.errors import InputError
from jaxlung.evaluation.evaluate import evaluate
from jaxlung.evaluation.model_scores import _share
from jaxlung.gate.image import NO_SLICE
from jaxlung.io.volumes import read_volume, write_mask
from jaxlung.masks.bodies import keep_lung_bodies
from jaxlung.metrics import assd, hausdorff, nsd, surface_distances
from jaxlung.metrics.calibration import Confidence, expected_dice
from jaxlung.predict.load import load
from jaxlung.predict.volumes import predict_volume
from jaxlung.train.log import describe_epoch
from jaxlung.train.loop import train_and_evaluate
from tests.helpers.ct_scans import affine_of, body, config_of, in_ras, nibabel, save, write_scans


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_scans(tmp_path_factory.mktemp("ct"))


@pytest.fixture(scope="module")
def ct_run(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "ct"
    train_and_evaluate(config_of(folder), path)
    return path


def test_the_epoch_is_chosen_by_the_dice_of_volumes(ct_run, capsys):
    """Slices without lung score 0 or 1, so that the mean over slices says little."""
    lines = (ct_run / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    best = max(records, key=lambda r: r["validation_volume_dice"])
    assert load(ct_run).step == best["step"]
    [entry] = evaluate(ct_run, split="validation", out=ct_run / "again")["results"]
    volumes = entry["volumes"]["per_volume"]["dice"]["mean"]
    assert volumes == pytest.approx(best["validation_volume_dice"], abs=0.1)  # of another grid
    train_and_evaluate(json.loads((ct_run / "config.json").read_text()), ct_run)  # it is complete
    assert f"best validation Dice of volumes {best['validation_volume_dice']:.4f} at step" in (
        capsys.readouterr().out
    )
    line = describe_epoch(records[0], best=False)
    shown = [f"{records[0][f'validation_{name}']:.4f}" for name in ("volume_dice", "dice")]
    assert "validation Dice of volumes {}, of slices {} ".format(*shown) in line


def test_a_trained_model_finds_the_lungs_of_a_scan(ct_run, folder, tmp_path):
    """Whatever the order of the axes, the mask is the same in the patient."""
    model = load(ct_run)
    hu, lungs = body((25, 20, 8))
    found = []
    for axes in ("RAS", "LPS"):
        path = save(tmp_path / f"{axes}.nii.gz", hu, affine_of(), axes)
        prediction = predict_volume(model, path, probabilities=True)
        mask, volume = prediction.mask_ZxHxW, prediction.volume
        write_mask(tmp_path / f"m{axes}.nii.gz", mask, volume.grid)
        above = prediction.probability_ZxHxW >= 128
        np.testing.assert_array_equal(mask, keep_lung_bodies(above))
        expected = expected_dice(prediction.probability_ZxHxW / 255, above)
        assert prediction.confidence == pytest.approx(expected, abs=2e-3)  # rounding to 8 bits
        density = volume.voxels_ZxHxW[mask].mean()
        assert prediction.density.mean_hu == pytest.approx(density)
        found.append(in_ras(tmp_path / f"m{axes}.nii.gz")[0] > 0)
    np.testing.assert_array_equal(*found)
    # Hounsfield units, not shades from a slice's own lowest to its highest value.
    hu_HxW = volume.voxels_ZxHxW[3]
    assert hu_HxW.dtype == np.int16 and mask[3].any()
    np.testing.assert_array_equal(model.predict(hu_HxW), mask[3])
    with pytest.raises(InputError, match=r"RAS.nii.gz: .*predict_volume"):
        model.predict(tmp_path / "RAS.nii.gz")
    dice = 2 * (found[0] & lungs).sum() / (found[0].sum() + lungs.sum())
    assert dice > 0.8
    # A calibration is of whole scans: they are warned of, and a slice alone keeps its own figure.
    sure, line = prediction.confidence, Confidence(slope=1.0, intercept=-0.1, least=0.9)
    unsure = dataclasses.replace(model, confidences={"lung": line})
    found = predict_volume(unsure, path)
    assert found.confidence == pytest.approx(sure - 0.1)
    words = f"the outlines are uncertain (expected Dice {sure - 0.1:.2f}): check the mask"
    assert words in found.warnings and words not in prediction.warnings
    assert unsure.prediction(hu_HxW).confidence == model.prediction(hu_HxW).confidence
    [entry] = evaluate(ct_run, data=folder, split="test", out=tmp_path / "out")["results"]
    volumes = entry["volumes"]
    assert volumes["n"] == entry["patients"] and 0 < volumes["per_volume"]["dice"]["mean"] <= 1
    assert "Whole volumes" in (tmp_path / "out" / "report.html").read_text()
    assert entry["patients"] < entry["n"] and entry["grids"]["original"]["per_image"]["hd_mm"]["n"]


def test_the_scores_of_scans_are_those_of_the_masks_that_predict_writes(ct_run, folder, tmp_path):
    out, model = tmp_path / "out", load(ct_run)
    [entry] = evaluate(ct_run, data=folder, split="all", out=out)["results"]
    with (out / "per_volume.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"scan_{i}" for i in range(6)]
    hd95 = []
    for row in rows:
        name = f"{row['id']}.nii.gz"
        found = predict_volume(model, folder / "images" / name)
        mask, volume = found.mask_ZxHxW, found.volume
        truth = read_volume(folder / "masks" / name).voxels_ZxHxW > 0
        distances = surface_distances(mask, truth, volume.spacing)
        hd95.append(hausdorff(distances, 95))
        expected = {
            "tp": (mask & truth).sum(),
            "dice": 2 * (mask & truth).sum() / (mask.sum() + truth.sum()),
            "hd95_mm": hd95[-1],
            "assd_mm": assd(distances),
            "nsd_mm": nsd(distances, 2.0),
        }
        found = {key: float(row[key]) for key in expected}
        assert found == pytest.approx(expected, abs=1e-6)
        assert int(row["slices"]) == len(truth)
    figures = entry["volumes"]["per_volume"]["hd95_mm"]
    assert figures["n"] == 6 and figures["mean"] == pytest.approx(np.mean(hd95))


def test_processes_share_whole_scans():
    scan_of = ["a"] * 3 + ["b"] * 2 + ["c"]
    assert [_share(scan_of, i, 2) for i in range(2)] == [[0, 1, 2, 5], [3, 4]]
    assert _share([""] * 5, 1, 2) == [1, 3]


LARGE = (10.0, 12.0, 25.0)  # mm: voxels of `body` with which its lungs hold a plausible volume


@pytest.fixture(scope="module")
def odd(ct_run, tmp_path_factory):
    """What predicting scans with odd headers and values writes: rows by name, and the folder."""
    scans, out = (tmp_path_factory.mktemp(name) for name in ("scans", "out"))
    hu, _ = body()
    sheared = affine_of(LARGE)
    sheared[1, 2] = LARGE[2] * np.tan(np.radians(20))
    for name, voxels, affine in (
        ("plain", hu, affine_of(LARGE)),
        ("identity", hu, np.eye(4)),
        ("lps", hu, np.diag([-1, -1, 1, 1])),
        ("stored", hu + 1024, affine_of(LARGE)),
        ("sheared", hu, sheared),
        ("centimetres", hu, affine_of((1.0, 1.2, 2.5))),
        ("grey", np.clip(hu + 1000, 0, 255), affine_of(LARGE)),
    ):
        nibabel.save(nibabel.Nifti1Image(voxels.astype(np.int16), affine), scans / f"{name}.nii")
    (scans / "notes.vtk").write_text("x")
    with pytest.raises(SystemExit, match="1"):
        main(["predict", str(scans), "--sides", "--workdir", str(ct_run), "--out", str(out)])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["passed_over"] == {".vtk": 1}
    return {row["name"]: row for row in summary["images"]}, out


def mask_of(out, name):
    return np.asanyarray(nibabel.load(out / f"{name}.nii.gz").dataobj)


def test_a_plain_scan_has_no_warning(odd):
    rows, out = odd
    labels = mask_of(out, "plain")
    assert rows["plain"]["warnings"] == []
    assert rows["plain"]["lung_ml"] == pytest.approx(np.count_nonzero(labels) * 3.0, abs=0.1)
    assert rows["plain"]["right_ml"] == pytest.approx((labels == 1).sum() * 3.0, abs=0.1)


def test_values_that_were_shifted_give_the_same_mask_and_a_warning(odd):
    rows, out = odd
    np.testing.assert_array_equal(mask_of(out, "stored"), mask_of(out, "plain"))
    [warning] = rows["stored"]["warnings"]
    assert warning.startswith("not in Hounsfield units: 1024 was subtracted")
    assert rows["grey"]["status"] == "failed" and "Hounsfield" in rows["grey"]["error"]


@pytest.mark.parametrize("name", ["identity", "lps"])
def test_a_default_header_leaves_sides_and_sizes_open(odd, name):
    """The mask itself is right; --sides labels it by place, and the summary says no sides."""
    rows, out = odd
    row = rows[name]
    default, implausible = row["warnings"]
    assert default == "default header: spacing and sides unsure"
    assert implausible.startswith("implausible volume: lungs of 0.")
    assert row["lung_px"] == np.count_nonzero(mask_of(out, name)) > 0
    assert {row[f] for f in ("lung_ml", "right_ml", "left_ml", "right_px", "right_to_left")} == {
        None
    }


def test_an_implausible_lung_volume_is_warned_of(odd):
    rows, _ = odd
    [warning] = rows["centimetres"]["warnings"]
    ml = rows["plain"]["lung_ml"] / 1000
    assert f"implausible volume: lungs of {ml:.3g} ml, expected 300 to 12000 ml" in warning
    assert rows["centimetres"]["lung_ml"] == pytest.approx(ml, abs=0.1)


def test_a_sheared_grid_is_warned_of_and_kept(odd):
    rows, out = odd
    [warning] = rows["sheared"]["warnings"]
    assert warning.startswith("tilted gantry: ITK") and warning.endswith("pass --resample")
    assert rows["sheared"]["lung_ml"] == rows["plain"]["lung_ml"]
    np.testing.assert_array_equal(mask_of(out, "sheared"), mask_of(out, "plain"))
    written = nibabel.load(out / "sheared.nii.gz").affine
    assert written[1, 2] == pytest.approx(LARGE[2] * np.tan(np.radians(20)), rel=1e-5)


def test_dicom_files_by_name(ct_run, tmp_path, capsys):
    """A CT of many frames is predicted; a film, a single slice and a Segmentation are refused."""
    pytest.importorskip("gdcm")
    from tests.helpers.dicom_files import dicom, saved

    stored_ZxHxW = (body()[0].transpose(2, 1, 0)[:, ::-1, ::-1] + 1024).astype(np.uint16)
    frames = dicom(stored_ZxHxW[0], 12, Modality="CT", RescaleIntercept=-1024, RescaleSlope=1)
    frames.NumberOfFrames, frames.PixelData = len(stored_ZxHxW), stored_ZxHxW.tobytes()
    frames.PixelSpacing, frames.SpacingBetweenSlices = [12.0, 10.0], 25.0
    saved(tmp_path / "frames.dcm", frames)
    saved(tmp_path / "film.dcm", dicom(stored_ZxHxW[0], 12))
    slices = {"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}
    places = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    one = dicom(stored_ZxHxW[0], 12, PixelSpacing=[1, 1], **slices, **places)
    saved(tmp_path / "one.dcm", one)
    out = tmp_path / "out"
    names = ("frames.dcm", "film.dcm", "one.dcm")
    with pytest.raises(SystemExit, match="1"):
        main(
            ["predict", *(str(tmp_path / n) for n in names), "--workdir", str(ct_run)]
            + ["--out", str(out)]
        )
    rows = {r["name"]: r for r in json.loads((out / "summary.json").read_text())["images"]}
    assert rows["frames"]["slices"] == 9 and rows["frames"]["lung_ml"] is None
    [warning] = rows["frames"]["warnings"]
    assert warning == "frames without places: taken in the file's order, spacing and sides unsure"
    mask = predict_volume(load(ct_run), tmp_path / "frames.dcm").mask_ZxHxW
    np.testing.assert_array_equal(mask_of(out, "frames") > 0, mask.transpose(2, 1, 0))
    assert "film.dcm: is an X-ray, but the model was trained on CT" in rows["film"]["error"]
    assert "one.dcm: holds one slice; expected a whole series" in rows["one"]["error"]
    if importlib.util.find_spec("highdicom"):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="1"):
            main(
                ["predict", str(tmp_path / "frames.dcm"), "--workdir", str(ct_run)]
                + ["--out", str(tmp_path / "seg"), "--format", "dicom-seg"]
            )
        [line] = capsys.readouterr().err.strip().splitlines()
        assert "has 9 frames, and DICOM SEG is not written of multi-frame CT" in line


def test_predict_command(ct_run, folder, tmp_path, capsys):
    scan = folder / "images" / "scan_3.nii.gz"
    arguments = ["--workdir", str(ct_run), "--out", str(tmp_path / "out")]
    main(["predict", str(scan), *arguments])
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "scan_3.nii.gz",
        "scan_3_overlay.png",
        "summary.csv",
        "summary.json",
    }
    capsys.readouterr()
    arguments[-1] = str(tmp_path / "sides")
    main(["predict", str(scan.parent), "--sides", "--probabilities", *arguments])
    plain, labels, probability = (
        np.asarray(nibabel.load(tmp_path / name).dataobj)
        for name in ("out/scan_3.nii.gz", "sides/scan_3.nii.gz", "sides/scan_3_probability.nii.gz")
    )
    np.testing.assert_array_equal(labels > 0, plain > 0)
    assert (probability[plain > 0] >= 0.5).mean() > 0.99  # all but filled holes
    assert set(np.unique(labels)) == {0, 1, 2} and 0 <= probability.min() < probability.max() <= 1
    rows = json.loads((tmp_path / "sides" / "summary.json").read_text())["images"]
    assert len(rows) == len(list(scan.parent.iterdir()))
    [row] = [row for row in rows if row["image"] == str(scan)]
    assert row["lung_px"] == (plain > 0).sum() and row["lung_ml"] > 0
    assert -1000 < row["mean_hu"] < -500 and 0 <= row["laa950"] < 1
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(scan), "--workdir", "cxr", "--out", str(tmp_path / "o")])
    assert stop.value.code == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "X-rays" in line and scan.name in line
    # A picture that is no slice gets a mask, and a warning.
    sheet = tmp_path / "out" / "scan_3_overlay.png"
    main(["predict", str(sheet), "--workdir", str(ct_run), "--out", str(tmp_path / "p")])
    assert NO_SLICE in capsys.readouterr().out


@pytest.mark.slow
def test_on_a_real_scan(shared_data, tmp_path):
    """Trains on slabs of a chest CT (its lobes are model-made: plumbing, not accuracy)."""
    scan, lobes = (nibabel.load(shared_data / "ct" / f"{n}.nii.gz") for n in ("chest", "lobes"))
    for part, z in (("a", slice(0, 60)), ("b", slice(60, 80)), ("c", slice(80, 133))):
        for name, image in (("images", scan), ("masks", lobes)):
            (tmp_path / name).mkdir(exist_ok=True)
            nibabel.save(image.slicer[:, :, z], tmp_path / name / f"{part}.nii.gz")
    lists = tmp_path / "lists.json"
    lists.write_text('{"train": ["a"], "validation": ["b"], "test": ["c"]}')
    config = config_of(tmp_path, size=64, split_file=str(lists))
    config.model.update({"width": 8, "depth": 3})
    config.train.update({"num_epochs": 30, "batch_size": 8})
    train_and_evaluate(config, tmp_path / "run")
    model = load(tmp_path / "run")
    found = []
    for axes in ("LAS", "RAS", "LPS"):  # as it is stored, and two copies
        turn = nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("LAS"), nibabel.orientations.axcodes2ornt(axes)
        )
        path = tmp_path / f"{axes}.nii.gz"
        nibabel.save(scan.as_reoriented(turn), path)
        main(
            [
                "predict",
                str(path),
                "--workdir",
                str(tmp_path / "run"),
                "--out",
                str(tmp_path / "masks_of_it"),
            ]
        )
        mask = nibabel.load(tmp_path / "masks_of_it" / path.name)
        np.testing.assert_array_equal(mask.affine, nibabel.load(path).affine)
        assert mask.shape == nibabel.load(path).shape
        found.append(in_ras(tmp_path / "masks_of_it" / path.name))
    for mask, affine in found[1:]:
        np.testing.assert_array_equal(mask, found[0][0])
        np.testing.assert_allclose(affine, found[0][1], atol=1e-4)
    truth = in_ras(shared_data / "ct" / "lobes.nii.gz")[0] > 0
    overlap = 2 * ((found[0][0] > 0) & truth).sum() / ((found[0][0] > 0).sum() + truth.sum())
    assert overlap > 0.8 and model.config.modality == "ct"


def test_a_scan_whose_segmentation_is_refused_leaves_no_other_file(ct_run, tmp_path):
    """A Segmentation refers to its series by UIDs, which this one lacks."""
    pytest.importorskip("gdcm")
    pytest.importorskip("highdicom")
    from tests.helpers.dicom_files import dicom, saved

    (tmp_path / "series").mkdir()
    for z, slice_HxW in enumerate(body()[0].transpose(2, 1, 0)[:, ::-1, ::-1]):
        one = dicom((slice_HxW + 1024).astype(np.uint16), 12, Modality="CT", PixelSpacing=[12, 10])
        one.SOPClassUID, one.SeriesInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
        one.RescaleIntercept, one.RescaleSlope = -1024, 1
        one.ImageOrientationPatient, one.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 25 * z]
        saved(tmp_path / "series" / f"{z}.dcm", one)
    command = ["predict", str(tmp_path / "series"), "--workdir", str(ct_run), "--probabilities"]
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match="1"):
        main([*command, "--out", str(out), "--format", "dicom-seg"])
    [row] = json.loads((out / "summary.json").read_text())["images"]
    assert "which a segmentation has to refer to" in row["error"]
    assert {path.name for path in out.iterdir()} == {"summary.csv", "summary.json"}
