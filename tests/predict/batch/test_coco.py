"""COCO annotations hold the masks of a batch as they are on disk."""

import json

import numpy as np
import pytest

from jaxlung.io.images import read_image, write_png
from tests.helpers.predict_command import jaxlung as command
from tests.helpers.predict_command import predict

coco = pytest.importorskip("pycocotools.coco", reason='needs pip install -e ".[test]"')


@pytest.fixture(scope="module")
def batch(workdir, model, tmp_path_factory):
    """Three phantoms in a folder of folders, with their predictions."""
    from jaxlung.data.datasets import load_splits

    folder = tmp_path_factory.mktemp("batch")
    (folder / "films" / "a").mkdir(parents=True)
    split = load_splits(model.config.data)["train"]
    for i in range(3):
        write_png(folder / "films" / "a" / f"{i}.png", split.read(i).image[:, : 40 + i])
    predict(folder / "films", "--model", workdir, "--out", folder / "out", "--sides")
    return folder


# pycocotools 2.0.11 has numpy arrays of an older kind.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_gives_back_the_masks_of_each_side(batch, tmp_path, capsys):
    corrected = read_image(batch / "out" / "a" / "1.png").copy()
    corrected[:5, :5] = 2
    write_png(batch / "out" / "a" / "1.png", corrected)
    write_png(batch / "out" / "a" / "2.png", np.zeros_like(read_image(batch / "out/a/2.png")))
    command("data", "coco", batch / "out", "--out", tmp_path / "masks.json")
    assert "3 images, " in capsys.readouterr().out
    read = coco.COCO(str(tmp_path / "masks.json"))
    names = {one["id"]: one["name"] for one in read.cats.values()}
    assert names == {1: "right_lung", 2: "left_lung"}
    assert [one["file_name"] for one in read.imgs.values()] == ["a/0.png", "a/1.png", "a/2.png"]
    for image in read.imgs.values():
        labels = read_image(batch / "out" / image["file_name"])
        found = np.zeros_like(labels)
        for one in read.imgToAnns[image["id"]]:
            mask = read.annToMask(one) > 0
            found[mask] = one["category_id"]
            left, top, width, height = one["bbox"]
            assert one["area"] == mask.sum() == mask[top : top + height, left : left + width].sum()
            assert mask[top].any() and mask[:, left].any()
        np.testing.assert_array_equal(found, labels)
    assert not read.imgToAnns[3]


def test_what_cannot_be_written_is_named(batch, workdir, tmp_path, capsys):
    def refused(folder, out=tmp_path / "new.json"):
        command("data", "coco", folder, "--out", out, code=2)
        return capsys.readouterr().err

    assert "holds no predictions" in refused(tmp_path)
    (tmp_path / "there.json").write_text("{}")
    assert "there.json exists" in refused(batch / "out", tmp_path / "there.json")
    predict(batch / "films", "--model", workdir, "--out", tmp_path / "n", "--format", "nii")
    assert "holds masks of --format nii; predict them as png" in refused(tmp_path / "n")
    predict(batch / "films", "--model", workdir, "--out", tmp_path / "s", "--share", "1/2")
    assert "unite them first, by: jaxlung join" in refused(tmp_path / "s")
    mask = batch / "out" / "a" / "0.png"
    before = mask.read_bytes()
    write_png(mask, np.zeros((3, 3), np.uint8))
    assert "0.png: is 3x3, but its image" in refused(batch / "out")
    mask.write_bytes(before)
    assert not (tmp_path / "new.json").exists()
    summary = json.loads((batch / "out" / "summary.json").read_text())
    assert len(summary["images"]) == 3  # and the batch is as it was
