"""Names of files in a review, and the order of its list."""

from pathlib import Path, PurePosixPath

from jaxlung.predict.batch.sources import Source
from jaxlung.view.films import Row, name_films, parse_row


def source(name, path=None):
    return Source(Path(path or f"/films/{name}.png"), "", PurePosixPath(name))


def test_stems_are_one_for_each_film_whatever_the_file_system():
    names = ["a/b", "a__b", "A/B", "x_mask", "c:d", ".hidden", "n" * 300, "\udcff"]
    stems = [film.stem for film in name_films([source(name) for name in names], {})]
    assert stems[:5] == ["a__b", "a__b_2", "A__B_3", "x_mask_film", "c_d"]
    assert len({stem.casefold() for stem in stems}) == len(names)
    for stem in stems:
        assert len(stem.encode()) <= 160 and not stem.startswith(".") and "/" not in stem


def test_stems_stay_when_further_films_join():
    before = name_films([source("b/x"), source("x")], {})
    known = {film.source.place: film.stem for film in before}
    after = name_films([source("b__x"), source("b/x"), source("x")], known)
    assert [film.stem for film in after] == ["b__x_2", "b__x", "x"]


def test_what_cannot_be_read_comes_first_then_warnings_low_confidence_and_differences():
    base = Row(source="", ready=True, confidence=0.97)
    rows = [
        Row(source="", ready=True, error="damaged"),
        Row(source="", ready=True, confidence=0.5, warnings=("odd",)),
        Row(source="", ready=True, confidence=0.99, warnings=("odd",)),
        Row(source="", ready=True, confidence=0.4),
        Row(source="", ready=True, confidence=0.8),
        Row(source="", ready=True, confidence=0.99, given_dice=0.2),
        Row(source="", ready=True, confidence=0.99, given_dice=0.8),
        base,
    ]
    attention = [row.attention for row in rows]
    assert attention == sorted(attention, reverse=True) and len(set(attention)) == len(rows)
    # What is fine stays in the list's order.
    assert base.attention == Row(source="", ready=True, confidence=0.92).attention == 0


def test_a_row_comes_back_from_its_file():
    row = Row(source="x", spacing=(0.1, 0.2), warnings=("a", "b"), dice=0.5, revision=3)
    assert parse_row(row.to_dict()) == row


def test_ids_stay_when_further_films_join():
    """An open page and a browser's records go on with them."""
    before = name_films([source("x"), source("y")], {})
    known = {film.source.place: film.stem for film in before}
    after = name_films([source("a"), source("x"), source("y")], known)
    assert [film.id for film in after[1:]] == [film.id for film in before]
    assert [film.place for film in after] == [0, 1, 2]
    assert len({film.id for film in after}) == 3
    assert all(len(film.id) == 12 and film.id.isalnum() for film in after)


def test_films_of_one_name_are_told_apart():
    paths = ["/d/site1/f0.png", "/d/site2/f0.png", "/d/site2/g.png", "/d/site2/g.jpg"]
    films = name_films([source(Path(path).stem, path) for path in (*paths, "/e/h.png")], {})
    names = [film.name for film in films]
    assert names == ["site1/f0.png", "site2/f0.png", "g.png", "g.jpg", "h"]
