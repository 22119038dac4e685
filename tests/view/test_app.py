"""The review through its addresses: the list, pixels, masks, what is kept of a correction."""

import gzip

import numpy as np
import pytest

from jaxlung.io.images import read_image
from jaxlung.io.masks import read_mask
from jaxlung.predict.batch.models import models_of
from tests.helpers import reviews


@pytest.fixture(scope="module")
def models(model):
    return models_of(model)


@pytest.fixture(scope="module")
def client(models, tmp_path_factory):
    """Four films, a file that is none, and one that is all black."""
    root = tmp_path_factory.mktemp("review")
    reviews.write_films(root / "films" / "a")
    (root / "films" / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    from jaxlung.io.images import write_png

    write_png(root / "films" / "black.png", np.zeros((64, 80), np.uint8))
    with reviews.open_client(models, [root / "films"], root / "review") as client:
        client.wait()
        yield client


def test_the_list_puts_first_what_needs_eyes(client):
    films = client.list()
    assert {film["name"] for film in films} == {
        "black",
        "a/broken",
        *(f"a/film_{i}" for i in range(4)),
    }
    first, second, *_ = sorted(films, key=lambda film: -film["attention"])
    assert first["name"] == "a/broken" and "is not an image" in first["error"]
    assert first["error"].startswith("a/broken: ")  # no path of this machine
    assert second["name"] == "black" and second["warnings"]
    assert str(client.review.store.out.parent) not in str(films)


def test_pixels_are_those_of_the_film(client):
    i = client.id_of("a/film_1")
    film = client.film(i)
    assert (film["bits"], film["low"], film["high"]) == (8, 0, 255)
    pixels = client.http.get(f"{client.address(i)}/pixels").content
    source = client.of(i).source.path
    np.testing.assert_array_equal(
        np.frombuffer(pixels, np.uint8).reshape(film["height"], film["width"]), read_image(source)
    )
    thumbnail = client.http.get(f"{client.address(i)}/thumbnail")
    assert (
        thumbnail.headers["content-type"] == "image/jpeg" and thumbnail.content[:2] == b"\xff\xd8"
    )


def test_first_mask_and_probability_are_the_packages_own(client, model):
    i = client.id_of("a/film_2")
    found = model.prediction(client.of(i).source.path)
    np.testing.assert_array_equal(client.mask(i)[0], found.labels)
    probability = client.http.get(f"{client.address(i)}/probability").content
    expected = np.rint(255 * found.probability).astype(np.uint8)
    np.testing.assert_array_equal(np.frombuffer(probability, np.uint8), expected.ravel())
    client.review.reader.cache.drop(("probability", i, 0).__eq__)  # as after a restart
    assert client.http.get(f"{client.address(i)}/probability").content == probability


def test_a_correction_is_on_disk_to_the_pixel_when_it_is_answered(client):
    i = client.id_of("a/film_0")
    before, revision = client.mask(i)
    drawn = before > 0
    drawn[20:30, 5:12] ^= True
    packed = client.http.put(
        f"{client.address(i)}/mask",
        content=gzip.compress(drawn.astype(np.uint8).tobytes()),
        headers={"if-match": f'"{revision}"', "content-encoding": "gzip"},
    )
    assert packed.json() == {"revision": revision + 1, "state": "corrected"}
    store, film = client.review.store, client.of(i)
    np.testing.assert_array_equal(read_mask(store.mask(film)), drawn)
    np.testing.assert_array_equal(read_image(store.image(film)), read_image(film.source.path))
    np.testing.assert_array_equal(read_mask(store.first(film)), before > 0)
    labels, _ = client.mask(i)
    np.testing.assert_array_equal(labels > 0, drawn)
    assert set(np.unique(labels)) == {0, 1, 2}
    rows = {row["id"]: row for row in reviews.read_table(store.out / "review.csv")}
    expected = 2 * (drawn & (before > 0)).sum() / (drawn.sum() + (before > 0).sum())
    assert float(rows[film.stem]["dice_first_to_current"]) == pytest.approx(expected, abs=1e-4)
    np.testing.assert_array_equal(client.mask(i, which="first")[0], before)


def test_two_windows_do_not_overwrite_each_other(client):
    i = client.id_of("a/film_1")
    labels, revision = client.mask(i)
    assert client.save(i, labels > 0, revision).status_code == 200
    late = client.save(i, labels > 9, revision)
    assert late.status_code == 409 and late.json()["revision"] == revision + 1
    assert client.judge(i, "reject", revision=revision).status_code == 409
    np.testing.assert_array_equal(client.mask(i)[0] > 0, labels > 0)
    missing = client.http.put(f"{client.address(i)}/mask", content=b"")
    assert missing.status_code == 428


def test_verdicts_move_films_in_and_out_of_what_is_trained_on(client):
    store, i = client.review.store, client.id_of("a/film_3")
    film = client.of(i)
    first = client.mask(i)[0] > 0

    def handed_on():
        ids = [row["id"] for row in reviews.read_table(store.out / "metadata.csv")]
        assert store.image(film).exists() == store.mask(film).exists() == (film.stem in ids)
        return store.mask(film).exists()

    assert not handed_on()
    assert client.judge(i, "accept").json()["state"] == "accepted" and handed_on()
    assert client.judge(i, "reject", "two\nlines").json()["state"] == "rejected"
    assert not handed_on() and client.film(i)["reason"] == "two lines"
    drawn = first.copy()
    drawn[:3] = True
    assert client.save(i, drawn).json()["state"] == "corrected" and handed_on()
    assert client.judge(i, "reject").status_code == 200 and not handed_on()
    assert client.judge(i, "accept").json()["state"] == "corrected" and handed_on()
    np.testing.assert_array_equal(read_mask(store.mask(film)), drawn)
    assert client.judge(i, "reopen").json()["state"] == "open" and not handed_on()
    np.testing.assert_array_equal(client.mask(i)[0] > 0, drawn)
    assert client.judge(i, "accept").json()["state"] == "corrected" and handed_on()


def test_a_mask_that_training_refuses_is_kept_but_not_handed_on(client):
    store, i = client.review.store, client.id_of("black")
    film = client.of(i)
    empty = np.zeros((64, 80), bool)
    assert client.save(i, empty).json()["state"] == "corrected"
    assert not store.mask(film).exists() and not store.image(film).exists()
    np.testing.assert_array_equal(read_image(store.aside(film)), 0)
    empty[10:20, 10:20] = True
    assert client.save(i, empty).status_code == 200
    assert store.mask(film).exists() and not store.aside(film).exists()
    assert client.judge(i, "reject").status_code == 200


def test_what_cannot_be_read_can_only_be_rejected(client):
    i = client.id_of("a/broken")
    for answer in (
        client.http.get(f"{client.address(i)}/pixels"),
        client.http.get(f"{client.address(i)}/mask"),
        client.judge(i, "accept"),
        client.save(i, np.zeros((2, 2))),
    ):
        assert answer.status_code == 422 and "\n" not in answer.json()["error"]
    assert client.judge(i, "reject", "damaged").json()["state"] == "rejected"


def test_the_poll_tells_only_what_has_changed(client):
    change = client.http.get("/api/review").json()["change"]
    assert client.http.get(f"/api/review?since={change}").json()["films"] == []
    i = client.id_of("a/film_2")
    client.judge(i, "accept")
    later = client.http.get(f"/api/review?since={change}").json()
    assert [film["id"] for film in later["films"]] == [i] and later["change"] > change


def test_the_reviewer_is_asked_once_and_written_down(client):
    assert client.http.post("/api/reviewer", json={"name": " Ada\n"}).json() == {"reviewer": "Ada"}
    i = client.id_of("a/film_2")
    client.judge(i, "accept")
    assert client.http.get("/api/review").json()["reviewer"] == "Ada"
    assert "Ada" in (client.review.store.out / "review.csv").read_text()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/films/99", 404),
        ("FILM/mask?slice=1", 404),
        ("FILM/mask?slice=-1", 400),
        ("FILM/mask?which=other", 400),
        ("FILM/mask?which=given", 404),
        ("/api/films/..%2f..%2fetc", 404),
        ("/page/..%2f..%2f__init__.py", 404),
        ("/page/%2e%2e/app.py", 404),
        ("/page/app.py", 404),
        ("/api/review?since=x", 400),
        ("/nothing", 404),
    ],
)
def test_addresses_hold_no_path_and_bad_ones_one_line(client, path, status):
    answer = client.http.get(path.replace("FILM", client.address(client.id_of("black"))))
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("body", [b"", b"\1" * 4095, b"\2" * 4096])
def test_a_mask_of_another_size_or_value_is_refused(client, body):
    i = client.id_of("a/film_2")
    revision = client.film(i)["revision"]
    answer = client.http.put(
        f"{client.address(i)}/mask", content=body, headers={"if-match": str(revision)}
    )
    assert answer.status_code == 422 and "64x64 bytes" in answer.json()["error"]
    assert client.film(i)["revision"] == revision
