"""A folder of CT volumes and masks as examples: one of each slice."""

import shutil

import numpy as np
import pytest

from jaxlung.config import parse_config
from jaxlung.data.ct_folder import load_ct_folder, load_ct_splits
from jaxlung.errors import InputError
from jaxlung.io.ct.hounsfield import apply_window
from jaxlung.train.data import prepare_data
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
