"""The public sets of CT, on small sets in the official layouts: from files to splits."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pydicom", reason='pip install -e ".[ct]"')
pytest.importorskip("nibabel", reason='pip install -e ".[ct]"')

from jaxlung.catalog import CATALOG  # noqa: E402
from jaxlung.cli.data import prepare_set  # noqa: E402
from jaxlung.config import DataConfig, parse_config  # noqa: E402
from jaxlung.data.datasets import load_splits  # noqa: E402
from jaxlung.data.prepare import prepare  # noqa: E402
from jaxlung.data.prepared import open_set  # noqa: E402
from jaxlung.data_check.check import check  # noqa: E402
from jaxlung.errors import InputError  # noqa: E402
from jaxlung.evaluation.choice import choose_split  # noqa: E402
from jaxlung.io.ct.hounsfield import apply_window  # noqa: E402
from jaxlung.io.volumes import from_grid, read_grid  # noqa: E402
from jaxlung.structures import LEFT_LUNG, RIGHT_LUNG  # noqa: E402
from tests.helpers import ct_layouts as layouts  # noqa: E402
from tests.helpers import drawn_files as files  # noqa: E402
from tests.helpers.ct_scans import config_of  # noqa: E402

# TFDS and TensorFlow warn of their own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Both sets, prepared."""
    root = tmp_path_factory.mktemp("ct_sets")
    layouts.lctsc(root)
    layouts.kaggle_lungs_ct(root, 6)
    texts = {name: prepare_set(name, root / "tfds", root) for name in ("lctsc", "kaggle_lungs_ct")}
    return root, texts


def refused(name, root, *words):
    with pytest.raises(InputError) as caught:
        prepare(name, root / "again", root)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message


def test_lctsc_has_every_slice_with_both_lungs(prepared):
    root, texts = prepared
    assert "lctsc: 24 slices in" in texts["lctsc"] and "--config ct" in texts["lctsc"]
    whole = open_set("lctsc", root / "tfds", (-1000.0, 400.0))
    assert len(whole.ids) == len(set(whole.ids)) == 7 + 8 + 9
    series = next((root / "lctsc").rglob("LCTSC-Train-S2-004/*/0.000000*"))
    hu, right, left = (from_grid(a.T, read_grid(series)) for a in files.chest((48, 40, 8)))
    for z in range(8):
        i = whole.ids.index(f"LCTSC-Train-S2-004_z{z:04d}")
        example = whole.read(i)
        np.testing.assert_array_equal(example.image, apply_window(hu[z], -1000, 400))
        np.testing.assert_array_equal(example.mask, (right | left)[z])
        np.testing.assert_array_equal(example.mask_of(RIGHT_LUNG), right[z])
        np.testing.assert_array_equal(example.mask_of(LEFT_LUNG), left[z])
        assert example.spacing == files.SPACING
        assert whole.patients[i] == "LCTSC-Train-S2-004"
        assert whole.groups["site"][i] == "S2" and whole.groups["part"][i] == "train"
    assert CATALOG["lctsc"].citation and "CC BY 3.0" in texts["lctsc"]


def test_nothing_of_a_header_names_a_patient(prepared):
    root, texts = prepared
    everything = b"".join(p.read_bytes() for p in (root / "tfds").rglob("*") if p.is_file())
    assert b"LCTSC-Train-S1-001" in everything  # the name of the folder
    assert not any(secret.encode() in everything for secret in files.SECRETS)


def test_kaggle_has_single_slices_and_scans(prepared):
    root, texts = prepared
    assert "kaggle_lungs_ct: 15 slices in" in texts["kaggle_lungs_ct"]
    whole = open_set("kaggle_lungs_ct", root / "tfds", (-1350.0, 150.0))
    hu, right, left = files.chest((40, 40, 9))
    for name, z, patient in (
        ("ID_0001_z0141", 4, "0001"),
        ("IMG_0002_z0003", 3, "0002"),
        ("ID_0002_z0142", 5, "0002"),  # of the scan's patient, by its number
    ):
        i = whole.ids.index(name)
        example = whole.read(i)
        np.testing.assert_array_equal(example.image, apply_window(hu[z], -1350, 150))
        np.testing.assert_array_equal(example.mask, (right | left)[z])
        assert whole.patients[i] == patient and example.spacing is None


def config_for(root, name, **data):
    config = config_of("", name=name, **data)
    config.data.dir = str(root / "tfds")
    return parse_config(config)


def test_splits_are_by_patient(prepared, tmp_path):
    root, _ = prepared
    config = config_for(root, "kaggle_lungs_ct")
    assert config.modality == "ct"
    splits = load_splits(config.data)
    patients = [set(split.patients) for split in splits.values()]
    assert all(patients) and sum(map(len, patients)) == len(set.union(*patients)) == 6
    # Lists name scans, not slices.
    names = layouts.PATIENTS
    lists = {"train": [names[0]], "validation": [names[1]], "test": [names[2]]}
    path = tmp_path / "lists.json"
    path.write_text(json.dumps(lists))
    config = config_for(
        root,
        "lctsc",
        split_file=str(path),
        test_fraction=DataConfig.test_fraction,
        validation_fraction=DataConfig.validation_fraction,
    )
    splits = load_splits(config.data)
    assert {name: len(split.ids) for name, split in splits.items()} == {
        "train": 7,
        "validation": 8,
        "test": 9,
    }


def test_sets_of_ct_and_of_x_rays_stay_apart(prepared):
    root, _ = prepared
    with pytest.raises(InputError, match="joins X-rays and CT"):
        config_for(root, "lctsc+montgomery")
    with pytest.raises(InputError, match="holds CT, but the model was trained on X-rays"):
        choose_split(DataConfig(name="montgomery"), Path("lctsc"), None)
    config = config_for(root, "lctsc").data
    with pytest.raises(InputError, match="holds X-rays, but the model was trained on CT"):
        choose_split(config, Path("jsrt"), None)
    split, _ = choose_split(config, Path("kaggle_lungs_ct"), None)
    assert len(split.ids) == 15
    with pytest.raises(
        InputError, match="is a prepared set of CT, .*name the folder of its volumes"
    ):
        check("lctsc", data_dir=str(root / "tfds"))


def test_lctsc_in_disorder_is_refused(tmp_path):
    (tmp_path / "lctsc").mkdir()
    refused("lctsc", tmp_path, tmp_path / "lctsc" / "LCTSC", "LCTSC-Train-S1-001")
    shutil.rmtree(tmp_path / "lctsc")
    folder = layouts.lctsc(tmp_path, layouts.PATIENTS[:1]) / layouts.PATIENTS[0]
    drawing = next(folder.rglob("1-1.dcm"))
    shutil.copy(drawing, drawing.with_name("1-2.dcm"))
    refused("lctsc", tmp_path, folder, "2 RTSTRUCT where one belongs")
    drawing.with_name("1-2.dcm").unlink()
    drawing.unlink()
    refused("lctsc", tmp_path, folder, "0 RTSTRUCT")
    _, right, left = files.chest((48, 40, 7))
    lungs = files.outline(right | left)
    files.save_dataset(drawing, files.make_rtstruct({"Lungs": lungs}))
    refused("lctsc", tmp_path, drawing, "does not tell right and left")
    files.save_dataset(drawing, files.make_rtstruct({"Lungs": lungs}, series="1.2.3"))
    refused("lctsc", tmp_path, drawing, "another series")
    shutil.rmtree(next(folder.rglob("0.000000*")))
    refused("lctsc", tmp_path, folder, "0 series of CT")


def test_kaggle_in_disorder_is_refused_or_counted(tmp_path):
    folder = layouts.kaggle_lungs_ct(tmp_path, 20)
    shutil.rmtree(folder / "3d_images")
    masks = sorted((folder / "2d_masks").iterdir())
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(masks[0])
    Image.fromarray(np.ones((40, 39), np.uint8)).save(masks[1])
    builder = prepare("kaggle_lungs_ct", tmp_path / "tfds", tmp_path)
    assert builder.info.metadata["left_out"] == {
        "with an empty mask": 1,
        "with a mask of another size": 1,
    }
    Image.fromarray(np.full((40, 40), 7, np.int32)).save(folder / "2d_images" / masks[2].name)
    refused("kaggle_lungs_ct", tmp_path, "17 of 20 slices can be used", "1 not in Hounsfield units")
    masks[3].unlink()
    refused("kaggle_lungs_ct", tmp_path, masks[3].name, "has no mask")
    (folder / "2d_images" / masks[3].name).rename(folder / "2d_images" / "slice.tif")
    refused("kaggle_lungs_ct", tmp_path, "slice.tif", "is not named like ID_0000_Z_0142.tif")
    shutil.rmtree(folder / "2d_masks")
    refused("kaggle_lungs_ct", tmp_path, folder / "2d_masks", "no such folder")
