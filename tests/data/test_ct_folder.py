"""A folder of CT volumes and masks as examples: one of each slice."""

import json
import shutil

import numpy as np
import pytest

from jaxlung.config import parse_config
from jaxlung.data.ct_folder import load_ct_folder, load_ct_splits
from jaxlung.errors import InputError
from jaxlung.io import volumes
from jaxlung.io.ct.hounsfield import apply_window
from jaxlung.train.data import prepare_data
from tests.helpers import drawn_files as files
from tests.helpers.ct_scans import affine_of, body, config_of, nibabel, save, write_scans


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_scans(tmp_path_factory.mktemp("ct"))


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


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """Three patients as a hospital exports them: a series each, with contours, or a SEG."""
    root = tmp_path_factory.mktemp("hospital")
    for i, stem in enumerate(("anna", "1.2.840", "carl")):
        files.write_patient(root, stem, i)
    (root / "masks" / "carl").mkdir()  # a folder that holds the file
    (root / "masks" / "carl.dcm").rename(root / "masks" / "carl" / "RS.1.2.dcm")
    return root


def test_series_with_contours_are_pairs(hospital, tmp_path):
    data = parse_config(config_of(hospital)).data
    whole = load_ct_folder(data, hospital)
    assert [i for i in whole.ids if i.endswith("z0000")] == [
        f"{stem}_z0000" for stem in ("1.2.840", "anna", "carl")
    ]
    hu, right, left = files.chest((48, 40, 10))
    expected = volumes.from_grid((right | left).T, volumes.read_grid(hospital / "images/1.2.840"))
    for z in range(10):
        example = whole.read(z)
        np.testing.assert_array_equal(example.mask, expected[z])
        assert example.spacing == files.SPACING and example.image.dtype == np.uint8
    # A series may have a mask of NIfTI as well.
    shutil.copytree(hospital / "images/1.2.840", tmp_path / "images/1.2.840")
    grid = volumes.read_grid(hospital / "images/1.2.840")
    (tmp_path / "masks").mkdir()
    volumes.write_mask(tmp_path / "masks/1.2.840.nii.gz", expected, grid)
    plain = load_ct_folder(data, tmp_path)
    assert plain.ids == whole.ids[:10]
    for one, other in zip(plain.read(5)[:3], whole.read(5)[:3], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_training_reads_series_and_counts_the_rest(hospital, tmp_path, capsys):
    root = tmp_path / "data"
    shutil.copytree(hospital, root)
    (root / "images" / "old").mkdir()
    (root / "masks" / "notes.txt").write_text("x")
    (root / "images" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    lists = {"train": ["anna"], "validation": ["1.2.840"], "test": ["carl"]}
    (tmp_path / "lists.json").write_text(json.dumps(lists))
    data = prepare_data(
        parse_config(
            config_of(
                root,
                split_file=str(tmp_path / "lists.json"),
                test_fraction=0.2,
                validation_fraction=0.1,
            )
        )
    )
    assert {name: len(c.split.ids) for name, c in data.canvases.items()} == {
        "train": 9,
        "validation": 10,
        "test": 11,
    }
    shown = capsys.readouterr()
    assert "2 files passed over (.txt 1, DICOMDIR 1)" in shown.out
    everything = repr(data.canvases) + shown.out + shown.err
    assert not any(secret in everything for secret in files.SECRETS)


def test_drawings_without_their_series_are_refused(hospital, tmp_path):
    data = parse_config(config_of(hospital)).data
    hu, lungs = body()
    save(tmp_path / "images" / "anna.nii.gz", hu, affine_of())
    (tmp_path / "masks").mkdir()
    shutil.copy(hospital / "masks" / "anna.dcm", tmp_path / "masks")
    with pytest.raises(InputError, match="anna.dcm: is drawn on a DICOM series, but its volume"):
        load_ct_folder(data, tmp_path).read(0)
    (tmp_path / "images" / "anna.nii.gz").unlink()
    shutil.copytree(hospital / "images" / "anna", tmp_path / "images" / "anna" / "CT")
    shutil.copytree(hospital / "images" / "carl", tmp_path / "images" / "carl")
    shutil.copytree(hospital / "masks" / "carl", tmp_path / "masks" / "carl")
    with pytest.raises(InputError, match="has no volume of that stem in .*images/anna itself"):
        load_ct_folder(data, tmp_path)
    (tmp_path / "masks" / "anna.dcm").unlink()
    (tmp_path / "masks" / "carl" / "RS.1.2.dcm").unlink()
    with pytest.raises(InputError, match="masks: holds no volume"):
        load_ct_folder(data, tmp_path)
    # A series in place of contours.
    shutil.rmtree(tmp_path / "masks" / "carl")
    shutil.copytree(hospital / "images" / "carl", tmp_path / "masks" / "carl")
    with pytest.raises(InputError, match="masks/carl: holds no contours"):
        load_ct_folder(data, tmp_path).read(0)
