"""The best checkpoint is read while a training deletes it."""

import shutil

import pytest

from jaxlung.errors import InputError
from jaxlung.predict.load import load
from jaxlung.workdir import integrity


@pytest.fixture
def run(workdir, tmp_path):
    """A copy of a run, and the step of its best checkpoint."""
    shutil.copytree(workdir, tmp_path / "run", ignore=shutil.ignore_patterns("eval"))
    return tmp_path / "run", load(workdir).step


@pytest.mark.parametrize("moment", ["before", "between", "half"])
def test_a_better_one_takes_the_place_of_the_best_while_it_is_read(run, monkeypatch, moment):
    """Three times: before the digests are checked, between that and the restore, half deleted."""
    folder, best = run
    find_damage, calls = integrity.find_damage, 0

    def replace(checkpoint):
        nonlocal calls
        calls += 1
        if calls <= 3:
            shutil.copytree(checkpoint, folder / "partial")
            (folder / "partial").rename(checkpoint.with_name(str(best + calls)))  # as Orbax does
            shutil.rmtree(checkpoint / "model" if moment == "half" else checkpoint)

    def find_damage_and_replace(checkpoint, item=""):
        if moment == "before":
            replace(checkpoint)
        damage = find_damage(checkpoint, item)
        if moment != "before":
            replace(checkpoint)
        return damage

    monkeypatch.setattr(integrity, "find_damage", find_damage_and_replace)
    assert load(folder).step == best + 3 and calls == 4


def test_what_stays_away_is_still_an_error(run):
    folder, best = run
    first = min((folder / "checkpoints" / str(best) / "model").rglob("*.*"))
    first.unlink()
    with pytest.raises(InputError, match=f"checkpoints/{best}: this checkpoint cannot be read"):
        load(folder)
