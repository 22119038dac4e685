"""Files appear whole, whoever else writes them."""

import pytest

from jaxlung.system.files import is_partial, name_partial, remove_partials, write_whole


@pytest.mark.parametrize("by_suffix", [False, True])
def test_two_that_write_one_file_do_not_tear_each_others(tmp_path, by_suffix):
    path = tmp_path / "1.png"
    with write_whole(path, by_suffix=by_suffix) as first:
        first.write_bytes(b"the fir")
        with write_whole(path, by_suffix=by_suffix) as second:
            second.write_bytes(b"second")
        assert path.read_bytes() == b"second"
        with first.open("ab") as file:
            file.write(b"st")
        assert first.suffix == (".png" if by_suffix else ".partial")
    assert path.read_bytes() == b"the first" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("by_suffix", [False, True])
def test_what_was_not_finished_is_removed_and_nothing_else(tmp_path, by_suffix):
    folder = tmp_path / "a"
    folder.mkdir()
    others = [folder / name for name in ("1.png", ".music.partial", ".partial_", "x.partial")]
    for path in others:
        path.touch()
    with pytest.raises(FileNotFoundError), write_whole(folder / "2.png", by_suffix=by_suffix) as p:
        p.touch()
        assert is_partial(p.name)
        other = folder / name_partial("3.png")  # of another command that is at work
        other.touch()
        remove_partials([folder / "2.png", tmp_path / "none" / "2.png"])
        other.unlink()
        assert sorted(folder.iterdir()) == sorted(others)
