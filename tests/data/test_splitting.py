"""Cross-validation: each patient outside the test split validates once, and trains otherwise."""

from collections import Counter

import cv2
import numpy as np
import pytest

from jaxlung.config import DataConfig
from jaxlung.data.datasets import load_splits
from jaxlung.data.splitting import fold_of, split_into_folds
from jaxlung.errors import InputError

PATIENTS = {f"image{i}": f"patient{i // 2}" for i in range(400)}  # two images each
PLAIN = {
    "test": list(PATIENTS)[:80],
    "validation": list(PATIENTS)[80:120],
    "train": list(PATIENTS)[120:],
}


def folds_of(count, plain=PLAIN, patients=PATIENTS):
    return [
        split_into_folds(plain, patients, DataConfig(folds=count, fold=fold), "here")
        for fold in range(count)
    ]


@pytest.mark.parametrize("count", [2, 5])
def test_each_image_outside_the_test_split_validates_in_exactly_one_fold(count):
    folds = folds_of(count)
    validated = Counter(i for splits in folds for i in splits["validation"])
    assert validated == Counter(PLAIN["train"] + PLAIN["validation"])
    for splits in folds:
        assert splits["test"] == PLAIN["test"]
        assert sorted(sum(splits.values(), [])) == sorted(PATIENTS)
        names = [{PATIENTS[i] for i in ids} for ids in splits.values()]
        assert sum(map(len, names)) == len(set.union(*names))  # no patient in two splits
        assert abs(len(splits["validation"]) - 320 / count) < 0.35 * 320 / count


def test_a_patient_stays_in_its_fold_when_others_come_or_go():
    [first, *_] = folds_of(5)
    fewer = {name: ids[::2] for name, ids in PLAIN.items()}
    [again, *_] = folds_of(5, fewer, {i: PATIENTS[i] for ids in fewer.values() for i in ids})
    assert set(again["validation"]) == set(first["validation"]) & set(sum(fewer.values(), []))


def test_folds_are_the_same_on_every_machine_and_in_every_version():
    assert [fold_of(f"patient{i}", 5) for i in range(8)] == [0, 3, 4, 0, 4, 2, 3, 4]


def test_without_folds_nothing_changes():
    assert split_into_folds(PLAIN, PATIENTS, DataConfig(), "here") == PLAIN


def test_an_empty_fold_is_refused_with_its_number():
    few = {"test": [], "validation": ["image0"], "train": ["image2", "image4"]}
    with pytest.raises(InputError, match=r"^here: data.folds=5 leaves fold \d empty \(3 patients"):
        split_into_folds(few, PATIENTS, DataConfig(folds=5), "here")


def test_a_folder_s_patients_stay_together(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for i in range(40):
            cv2.imwrite(str(tmp_path / name / f"p{i // 2}_{i}.png"), np.zeros((2, 2), np.uint8))
    config = {"name": "folder", "dir": str(tmp_path), "patient_pattern": r"(p\d+)_"}
    plain = load_splits(DataConfig(**config, test_fraction=0.3))
    validated: Counter[str] = Counter()
    for fold in range(3):
        splits = load_splits(DataConfig(**config, test_fraction=0.3, folds=3, fold=fold))
        assert splits["test"].ids == plain["test"].ids
        assert not set(splits["train"].patients) & set(splits["validation"].patients)
        validated.update(splits["validation"].ids)
    assert validated == Counter(plain["train"].ids + plain["validation"].ids)
    with pytest.raises(InputError, match=rf"^{tmp_path}: data.folds=40 leaves fold"):
        load_splits(DataConfig(**config, folds=40))


def test_phantoms_fall_into_folds_with_their_pictures():
    numbers = {"size": 32, "phantom_train": 8, "phantom_validation": 4, "phantom_test": 3}
    plain = load_splits(DataConfig(**numbers))
    pictures = {i: split.read(n).image for split in plain.values() for n, i in enumerate(split.ids)}
    validated = []
    for fold in range(2):
        splits = load_splits(DataConfig(**numbers, folds=2, fold=fold))
        assert splits["test"].ids == plain["test"].ids
        validated += splits["validation"].ids
        for split in splits.values():
            for n, image_id in enumerate(split.ids):
                np.testing.assert_array_equal(split.read(n).image, pictures[image_id])
    assert sorted(validated) == sorted(plain["train"].ids + plain["validation"].ids)
