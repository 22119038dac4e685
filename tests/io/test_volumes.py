"""CT volumes: orientation, grids, slices as examples, and masks back on the file's own grid."""

import gzip
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from configs import ct as ct_recipe
from jaxlung.cli import main
from jaxlung.config import parse_config
from jaxlung.data.ct_folder import load_ct_folder, load_ct_splits
from jaxlung.errors import InputError
from jaxlung.evaluation.evaluate import evaluate
from jaxlung.io.ct.hounsfield import apply_window
from jaxlung.io.volumes import (
    _GEOMETRY,
    Grid,
    Volume,
    measure_voxel,
    read_volume,
    volume_stem,
    write_mask,
)
from jaxlung.metrics import Counts
from jaxlung.predict.load import load
from jaxlung.predict.volumes import predict_volume
from jaxlung.train.data import prepare_data
from jaxlung.train.log import describe_epoch
from jaxlung.train.loop import train_and_evaluate
from jaxlung.train.validation import Scores

nibabel = pytest.importorskip("nibabel", reason='pip install -e ".[ct]"')
AXES = ["RAS", "LPS", "LAS", "SPL", "ASR", "IRP"]


def body(shape=(24, 20, 9)):
    """A chest in R, A, S order: air about, two lungs, the left one smaller; and their mask."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    hu = np.full(shape, -1000.0)
    hu[(x**2 / 0.9 + y**2 / 0.7) < 1] = 40
    height = 0.7 - 0.2 * z  # wider at the bottom
    left = ((x + 0.45) ** 2 / 0.06 + y**2 / 0.25) < height**2
    right = ((x - 0.45) ** 2 / 0.10 + (y - 0.1) ** 2 / 0.3) < height**2
    lungs = (left | right) & (np.abs(z) < 0.8)
    hu[lungs] = -800
    return hu.astype(np.int16), lungs


def affine_of(sizes=(1.5, 2.0, 3.0), origin=(10.0, -20.0, 5.0)):
    affine = np.diag([*sizes, 1.0])
    affine[:3, 3] = origin
    return affine


def save(path, voxels, affine, axes="RAS"):
    """Writes voxels that are given in R-A-S in another order of axes, at the same place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(voxels.astype(np.int16), affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(axes)
    )
    image = image.as_reoriented(turn)
    assert "".join(nibabel.aff2axcodes(image.affine)) == axes
    nibabel.save(image, path)
    return path


def in_ras(path):
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asanyarray(image.dataobj), image.affine


@pytest.mark.parametrize("axes", AXES)
def test_slices_look_the_same_however_they_are_stored(tmp_path, axes):
    hu, _ = body()
    volume = read_volume(save(tmp_path / "a.nii.gz", hu, affine_of(), axes))
    assert volume.voxels_ZxHxW.shape == (9, 20, 24) and volume.spacing == (3.0, 2.0, 1.5)
    # Feet to head, front to back, the patient's right on the picture's left.
    expected = hu.transpose(2, 1, 0)[:, ::-1, ::-1]
    np.testing.assert_array_equal(volume.voxels_ZxHxW, expected)


@pytest.mark.parametrize("axes", AXES)
def test_mask_returns_to_the_files_own_grid(tmp_path, axes):
    hu, lungs = body()
    path = save(tmp_path / "a.nii", hu, affine_of(), axes)
    volume = read_volume(path)
    write_mask(tmp_path / "mask.nii.gz", volume.voxels_ZxHxW == -800, volume.grid)
    written, original = nibabel.load(tmp_path / "mask.nii.gz"), nibabel.load(path)
    np.testing.assert_array_equal(written.affine, original.affine)
    assert written.shape == original.shape and written.get_data_dtype() == np.uint8
    for field in _GEOMETRY:
        np.testing.assert_array_equal(written.header[field], original.header[field])
    found, affine = in_ras(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(found > 0, lungs)
    np.testing.assert_allclose(affine, affine_of(), atol=1e-5)


def test_an_oblique_volume_keeps_its_grid(tmp_path):
    hu, _ = body()
    angle = np.deg2rad(12)
    affine = affine_of()
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image = nibabel.Nifti1Image(hu, affine)
    image.set_sform(None, code=0)  # the quaternion alone says where it lies
    image.set_qform(affine, code=1)
    nibabel.save(image, tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    write_mask(tmp_path / "m.nii.gz", volume.voxels_ZxHxW < -900, volume.grid)
    written, original = (nibabel.load(tmp_path / name) for name in ("m.nii.gz", "a.nii.gz"))
    np.testing.assert_array_equal(written.affine, original.affine)
    np.testing.assert_array_equal(np.asanyarray(written.dataobj) > 0, hu < -900)


def test_scaled_big_endian_nifti_2_in_metres(tmp_path):
    """Values to hand, spacing in mm, and an affine of 64 bits that comes back to the last bit."""
    affine = affine_of((0.00123456789, 0.002, 0.003), (1 / 3, -1 / 7, 0.1))
    header = nibabel.Nifti2Header(endianness=">")
    header.set_xyzt_units("meter")
    image = nibabel.Nifti2Image(body()[0], affine, header)
    image.header.set_slope_inter(0.5, -24)
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    assert volume.voxels_ZxHxW.dtype == np.float32  # half the memory of nibabel's float64
    expected = (body()[0] * 0.5 - 24).transpose(2, 1, 0)[:, ::-1, ::-1]
    np.testing.assert_array_equal(volume.voxels_ZxHxW, expected)
    assert volume.spacing == pytest.approx((3, 2, 1.23456789))
    write_mask(tmp_path / "m.nii.gz", volume.voxels_ZxHxW < -500, volume.grid)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "m.nii.gz").affine, affine)


def test_sform_goes_before_a_qform_that_disagrees_and_both_are_kept(tmp_path):
    hu, lungs = body()
    image = nibabel.Nifti1Image(hu, affine_of())
    image.set_qform(np.diag([-1.5, -2.0, 3.0, 1.0]), code=1)
    image.set_sform(affine_of(), code=2)
    nibabel.save(image, tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.voxels_ZxHxW, hu.transpose(2, 1, 0)[:, ::-1, ::-1])
    write_mask(tmp_path / "m.nii.gz", volume.voxels_ZxHxW == -800, volume.grid)
    written, original = (nibabel.load(tmp_path / name) for name in ("m.nii.gz", "a.nii.gz"))
    np.testing.assert_array_equal(written.get_qform(), original.get_qform())
    np.testing.assert_array_equal(written.get_sform(), original.get_sform())
    np.testing.assert_array_equal(np.asanyarray(written.dataobj) > 0, lungs)


def test_a_fourth_axis_of_one_is_kept(tmp_path):
    nibabel.save(nibabel.Nifti1Image(body()[0][..., None], affine_of()), tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert volume.voxels_ZxHxW.shape == (9, 20, 24)
    write_mask(tmp_path / "m.nii.gz", volume.voxels_ZxHxW < 0, volume.grid)
    assert nibabel.load(tmp_path / "m.nii.gz").shape == (24, 20, 9, 1)


def test_the_folder_here_has_a_name(tmp_path, monkeypatch):
    (tmp_path / "scan.1").mkdir()
    monkeypatch.chdir(tmp_path / "scan.1")
    assert volume_stem(Path(".")) == "scan.1"


def test_nothing_of_the_headers_free_text_is_written(tmp_path):
    hu, _ = body()
    image = nibabel.Nifti1Image(hu, affine_of())
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = b"Jane Doe"
    nibabel.save(image, tmp_path / "a.nii")
    assert b"Jane Doe" in (tmp_path / "a.nii").read_bytes()
    volume = read_volume(tmp_path / "a.nii")
    write_mask(tmp_path / "m.nii.gz", volume.voxels_ZxHxW < 0, volume.grid)
    assert b"Jane" not in gzip.decompress((tmp_path / "m.nii.gz").read_bytes())


def test_window():
    hu = np.array([-3000, -1350, -600, 150, 3000])
    np.testing.assert_array_equal(apply_window(hu, -1350, 150), [0, 0, 128, 255, 255])


def damaged(path):
    path.write_bytes(path.read_bytes()[:200])


def four_dimensional(path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5, 2), np.int16), np.eye(4)), path)


def infinite(path):
    nibabel.save(nibabel.Nifti1Image(np.full((3, 4, 5), np.inf, np.float32), np.eye(4)), path)


def unplaced(path):
    nibabel.save(nibabel.Nifti1Image(body()[0], None), path)


def flat(path):
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[312:328] = bytes(16)  # srow_z
    path.write_bytes(gzip.compress(raw))


def colour(path):
    rgb = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(rgb, np.eye(4)), path)


def empty(path):
    path.write_bytes(b"")


def quoted(path):
    """A header that nibabel's log would quote."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[70:72] = b"QX"  # datatype
    path.write_bytes(gzip.compress(raw))


def text(path):
    path.write_text("not a volume")


@pytest.mark.parametrize(
    "break_it",
    [damaged, four_dimensional, infinite, unplaced, flat, colour, empty, quoted, text, Path.unlink],
)
def test_bad_volumes_are_one_line_that_names_the_file(tmp_path, break_it, capfd):
    path = save(tmp_path / "a.nii.gz", body()[0], affine_of())
    break_it(path)
    capfd.readouterr()
    with pytest.raises(InputError, match="a.nii.gz: ") as error:
        read_volume(path)
    assert "\n" not in str(error.value) and error.value.__suppress_context__ | (
        error.value.__context__ is None
    )
    assert "".join(capfd.readouterr()) == ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six scans of various orientation and length."""
    root = tmp_path_factory.mktemp("ct")
    for i in range(6):
        hu, lungs = body((24 + i, 20, 7 + i))
        noise = np.random.default_rng(i).integers(-20, 20, hu.shape)
        name = f"scan_{i}.nii.gz"
        save(root / "images" / name, hu + noise, affine_of(), AXES[i])
        save(root / "masks" / name, lungs * (1 + i % 3), affine_of(), AXES[i])
    return root


def config_of(folder, **data):
    config = ct_recipe.get_config()
    config.data.dir = str(folder)
    config.data.update(
        {"size": 32, "loader": "memory", "test_fraction": 0.3, "validation_fraction": 0.3, **data}
    )
    config.model.update({"width": 4, "depth": 1})
    config.train.update({"batch_size": 2, "num_epochs": 12})
    config.optim.learning_rate = 1e-2
    return config


def test_every_slice_is_an_example_and_a_scan_stays_in_one_split(folder):
    config = parse_config(config_of(folder))
    whole = load_ct_folder(config.data, folder)
    assert len(whole.ids) == sum(7 + i for i in range(6)) == len(set(whole.ids))
    splits = load_ct_splits(config.data)
    scans = [{i.rsplit("_z")[0] for i in split.ids} for split in splits.values()]
    assert all(scans) and sum(map(len, scans)) == len(set.union(*scans)) == 6
    assert sorted(i for s in splits.values() for i in s.ids) == sorted(whole.ids)
    for index in (0, 8, len(whole.ids) - 1):
        example = whole.read(index)
        assert example.image.dtype == np.uint8 and example.mask.dtype == bool
        assert example.image.shape == example.mask.shape and example.spacing == (2.0, 1.5)
        assert whole.patients[index] == whole.ids[index].rsplit("_z")[0]
        if example.mask.any():
            assert example.image[example.mask].mean() < 110  # lung is darker than the body


def test_refused_folders(folder, tmp_path):
    config = parse_config(config_of(folder)).data
    hu, lungs = body()
    save(tmp_path / "images" / "a.nii.gz", hu, affine_of())
    with pytest.raises(InputError, match="masks"):
        load_ct_folder(config, tmp_path)
    save(tmp_path / "masks" / "a.nii.gz", lungs, affine_of(origin=(0, 0, 0)))
    with pytest.raises(InputError, match="another grid"):
        load_ct_folder(config, tmp_path).read(0)
    for wrong in (lungs * 0.5, hu):  # resampled; the scan itself
        image = nibabel.Nifti1Image(wrong.astype(np.float32), affine_of())
        nibabel.save(image, tmp_path / "masks" / "a.nii.gz")
        with pytest.raises(InputError, match=r"masks/a.nii.gz: .*labels"):
            load_ct_folder(config, tmp_path).read(0)
    save(tmp_path / "masks" / "a.nii.gz", lungs, affine_of())
    save(tmp_path / "images" / "a.nii.gz", np.clip(hu + 1000, 0, 255), affine_of())
    with pytest.raises(InputError, match="Hounsfield"):
        load_ct_folder(config, tmp_path).read(0)
    save(tmp_path / "images" / "b.nii", hu, affine_of())
    with pytest.raises(InputError, match="b.nii"):
        load_ct_folder(config, tmp_path)


def test_a_stray_pixel_on_each_empty_slice_costs_a_volume_little():
    """Scan a has 10 slices, 5 of them with 1000 pixels of lung, all found; scan b is right."""
    tp, fp = np.array([1000] * 5 + [0] * 5 + [500]), np.array([0] * 5 + [1] * 5 + [0])
    counts = Counts(tp, fp, np.zeros(11, int), np.full(11, 9000))
    means = Scores(np.zeros(11), counts, ("a",) * 10 + ("b",)).means()
    assert means["dice"] == pytest.approx(6 / 11)
    assert means["volume_dice"] == pytest.approx((10000 / 10005 + 1) / 2)
    assert "volume_dice" not in Scores(np.zeros(11), counts).means()


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
        mask, probability, volume = predict_volume(
            model, save(tmp_path / f"{axes}.nii.gz", hu, affine_of(), axes)
        )
        write_mask(tmp_path / f"m{axes}.nii.gz", mask, volume.grid)
        np.testing.assert_array_equal(mask, probability >= 0.5)
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
    [entry] = evaluate(ct_run, data=folder, split="test", out=tmp_path / "out")["results"]
    volumes = entry["volumes"]
    assert volumes["n"] == entry["patients"] and 0 < volumes["per_volume"]["dice"]["mean"] <= 1
    assert "Whole volumes" in (tmp_path / "out" / "report.html").read_text()
    assert entry["patients"] < entry["n"] and entry["grids"]["original"]["per_image"]["hd_mm"]["n"]


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
    assert warning.startswith("tilted gantry: ITK") and "resample the scan" in warning
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
    mask, _ = predict_volume(load(ct_run), tmp_path / "frames.dcm")[:2]
    np.testing.assert_array_equal(mask_of(out, "frames") > 0, mask.transpose(2, 1, 0))
    assert "film.dcm: Modality is DX; expected a series of CT" in rows["film"]["error"]
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


def test_training_says_once_what_is_odd_about_a_scan(folder, tmp_path, capsys):
    hu, lungs = body()
    save(tmp_path / "images" / "a.nii.gz", hu + 1024, affine_of())
    save(tmp_path / "masks" / "a.nii.gz", lungs, affine_of())
    split = load_ct_folder(parse_config(config_of(folder)).data, tmp_path)
    data = parse_config(config_of(folder)).data
    expected = apply_window(hu.transpose(2, 1, 0)[:, ::-1, ::-1], data.window_low, data.window_high)
    for index in (0, 4, 8):
        np.testing.assert_array_equal(split.read(index).image, expected[index])
    [line] = capsys.readouterr().err.splitlines()
    path = tmp_path / "images" / "a.nii.gz"
    assert line.startswith(f"warning: {path}: not in Hounsfield units: 1024 was subtracted")


def test_assumed_sizes_are_no_spacing_of_an_example(tmp_path, folder):
    hu, lungs = body()
    data = parse_config(config_of(folder)).data
    for affine, spacing in ((np.eye(4), None), (affine_of(), (2.0, 1.5))):
        save(tmp_path / "images" / "a.nii.gz", hu, affine)
        save(tmp_path / "masks" / "a.nii.gz", lungs, affine)
        assert load_ct_folder(data, tmp_path).read(0).spacing == spacing


def test_what_a_training_passes_over_is_counted(tmp_path, folder, capsys):
    shutil.copytree(folder, tmp_path / "data")
    for name in ("notes.txt", "x.mhd.txt", "lonely.raw"):
        (tmp_path / "data" / "images" / name).write_text("x")
    prepare_data(parse_config(config_of(tmp_path / "data")))
    words = "3 files passed over (.raw 1, .txt 2)"
    assert f"{tmp_path / 'data'}: {words}\n" in capsys.readouterr().out


def test_volume_of_a_voxel_of_a_tilted_gantry():
    """A shear changes no volume, though it makes an axis longer."""
    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    affine[1, 2] = 2.0 * np.tan(np.radians(20))
    spacing = (2.0 / np.cos(np.radians(20)), 0.5, 0.5)
    volume = Volume(np.zeros((4, 3, 2)), spacing, Grid((2, 3, 4), affine, None))
    assert measure_voxel(volume) == pytest.approx(0.5)


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
    np.testing.assert_array_equal(probability >= 0.5, plain > 0)
    assert set(np.unique(labels)) == {0, 1, 2} and probability.dtype == np.float32
    rows = json.loads((tmp_path / "sides" / "summary.json").read_text())["images"]
    assert len(rows) == len(list(scan.parent.iterdir()))
    [row] = [row for row in rows if row["image"] == str(scan)]
    assert row["lung_px"] == (plain > 0).sum() and row["lung_ml"] > 0
    capsys.readouterr()
    for model, path, word in (
        ("cxr", scan, "X-rays"),
        (ct_run, tmp_path / "out" / "scan_3_overlay.png", "CT volumes"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["predict", str(path), "--workdir", str(model), "--out", str(tmp_path / "o")])
        assert stop.value.code == 1
        [line] = capsys.readouterr().err.strip().splitlines()
        assert word in line and path.name in line


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
