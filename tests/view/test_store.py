"""What is on disk after any end: a save that was answered is there, the rest is as it was."""

import functools
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxlung.errors import InputError
from jaxlung.io.images import read_image, write_png
from jaxlung.io.masks import read_mask
from jaxlung.predict.batch.models import models_of
from jaxlung.view import store
from tests.helpers import reviews


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    reviews.write_films(folder, 2)
    return folder


@pytest.fixture
def open_review(model, films, tmp_path):
    return functools.partial(reviews.open_client, models_of(model), [films], tmp_path / "review")


@pytest.fixture
def own_films(model, tmp_path):
    """Films that a test may replace, and what opens their review."""
    reviews.write_films(tmp_path / "films", 2)
    opened = reviews.open_client, models_of(model), [tmp_path / "films"], tmp_path / "review"
    return tmp_path / "films", functools.partial(*opened)


def _draw(before, k):
    drawn = before.copy()
    drawn[5 : 10 + k, 5:20] ^= True
    return drawn


def test_the_same_command_goes_on(own_films, tmp_path):
    films, open_review = own_films
    with open_review() as client:
        client.wait()
        drawn = _draw(client.mask(0)[0] > 0, 1)
        client.save(0, drawn)
        client.judge(1, "reject", "blurred")
        client.http.post("/api/reviewer", json={"name": "Ada"})
        key = client.review.store.read_key()
        assert (tmp_path / "review" / "view").stat().st_mode & 0o077 == 0
        (tmp_path / "review" / "view" / "key").chmod(0o644)  # by a copy, say
        ids = [film["id"] for film in client.list()]
    shutil.copy(films / "film_0.png", films / "a.png")  # films may join, before the others too
    with open_review() as client:
        assert client.wait()[0]["name"] == "a"
        first, *known = client.list()
        assert first["state"] == "open" and [film["id"] for film in known] == ids
        assert [film["state"] for film in known] == ["corrected", "rejected"]
        assert known[0]["ready"] and known[1]["reason"] == "blurred"
        np.testing.assert_array_equal(client.mask(ids[0])[0] > 0, drawn)
        assert client.http.get("/api/review").json()["reviewer"] == "Ada"
        assert client.review.store.read_key() == key
        assert (tmp_path / "review" / "view" / "key").stat().st_mode & 0o077 == 0


def test_another_review_in_the_folder_is_refused(open_review, model, tmp_path):
    with open_review() as client:
        client.wait()
    out = tmp_path / "review"
    reviews.write_films(tmp_path / "others", 1)
    others = reviews.open_client(models_of(model), [tmp_path / "others"], out)
    with pytest.raises(InputError, match="not among these .*another --out folder"), others:
        pass
    import dataclasses

    once = dataclasses.replace(model, tta=not model.tta)
    with pytest.raises(InputError, match="tta was True.*same flags as then"):
        with reviews.open_client(models_of(once), [tmp_path / "others"], out):
            pass


def test_a_second_server_on_one_folder_is_refused(open_review, tmp_path):
    with open_review():
        # Before it reads anything: what the first one writes may be of any moment.
        (tmp_path / "review" / "review.json").write_text("{")
        with pytest.raises(InputError, match="another jaxlung view has this review"), open_review():
            pass


def test_a_changed_file_is_predicted_anew_or_pointed_at(open_review, films):
    with open_review() as client:
        client.wait()
        client.judge(0, "accept")
    for i in range(2):
        path = films / f"film_{i}.png"
        path.write_bytes(path.read_bytes() + b"\0")
    with open_review() as client:
        accepted, other = client.wait()[:2]
        assert accepted["state"] == "accepted" and "has changed" in accepted["warnings"][-1]
        assert not any("has changed" in words for words in other["warnings"])


def _bring(review, film_id, state, mask):
    """Brings a film that is open into a state; `mask` is what is drawn on it, where it is."""
    if state in ("corrected", "set aside"):
        review.save(film_id, 0, mask, review.rows[film_id].revision)
    words = {"accepted": "accept", "rejected": "reject", "set aside": "reject"}
    if state in words:
        review.judge(film_id, words[state], "", review.rows[film_id].revision)


@pytest.mark.parametrize(
    ("earlier", "change"),
    [
        *(("open", "save"), ("set aside", "accept"), ("corrected", "reject")),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                *((state, "save") for state in ("accepted", "corrected", "rejected", "set aside")),
                *(("open", "accept"), ("accepted", "reject"), ("corrected", "reopen")),
            )
        ),
    ],
)
def test_a_server_killed_at_any_step_leaves_what_was_or_what_is_asked_for(
    open_review, monkeypatch, tmp_path, earlier, change
):
    """Each write and each removal of a change is once the one that does not happen any more."""
    out = tmp_path / "review"
    with open_review() as client:
        client.wait()
        film_id, first = client.of(0).id, client.mask(0)[0] > 0
        old = first if earlier in ("open", "accepted", "rejected") else _draw(first, 1)
        new = _draw(first, 2) if change == "save" else old
        _bring(client.review, film_id, earlier, old)
        before = client.row(0)
    shutil.copytree(out, tmp_path / "start")

    def make_change(review):
        if change == "save":
            return review.save(film_id, 0, new, before.revision)
        return review.judge(film_id, change, "", before.revision)

    unlink = Path.unlink
    for last in itertools.count(1):
        shutil.rmtree(out)
        shutil.copytree(tmp_path / "start", out)
        steps = []

        def dying(step, place, *args, steps=steps, last=last, **kwargs):
            if out in place.parents:
                steps.append(place)
                if len(steps) >= last:
                    raise Killed
            return step(place, *args, **kwargs)

        with open_review() as client, monkeypatch.context() as patch:
            patch.setattr(store, "write_durable", functools.partial(dying, store.write_durable))
            patch.setattr(Path, "unlink", lambda path, **kw: dying(unlink, path, **kw))
            try:
                make_change(client.review)
            except Killed:
                is_answered = False
            else:
                is_answered = True
        with open_review() as client:  # the start brings the files in line
            row, now = client.row(0), client.mask(0)[0] > 0
            film, files = client.of(0), client.review.store
            np.testing.assert_array_equal(read_mask(files.current(film, row)), now)
            assert files.image(film).exists() == files.mask(film).exists() == row.trains
            assert files.aside(film).exists() == (row.edited and not row.trains)
            if row.revision == before.revision:
                assert not is_answered and row.state == before.state
                # The page sends again what was not answered.
                assert (now == old).all() or (earlier == "corrected" and (now == new).all())
                row = make_change(client.review)
                now = client.mask(0)[0] > 0
            states = {"save": "corrected", "reject": "rejected", "reopen": "open"}
            accepted = "corrected" if before.edited else "accepted"
            assert row.state == states.get(change, accepted) and (now == new).all()
        if is_answered:
            break
    assert last > 3  # the row and two tables at least, and one more without an end


def test_no_header_is_copied_and_patients_are_digests(model, tmp_path):
    pytest.importorskip("pydicom")
    pytest.importorskip("gdcm")
    films = tmp_path / "films"
    pixels = np.random.default_rng(0).integers(0, 4096, (2, 70, 60))
    for i in range(2):
        reviews.write_dicom(films / f"film_{i}.dcm", pixels[i], PixelSpacing=[0.2, 0.3])
    reviews.write_dicom(films / "other.dcm", pixels[0], PatientID="SECRET-78")
    out = tmp_path / "review"
    with reviews.open_client(models_of(model), [films], out) as client:
        client.wait()
        assert "header" not in client.film(0)
        for i in range(3):
            client.judge(i, "accept")
            client.save(i, np.eye(70, 60))
        answers = [client.http.get("/api/review").text, str(client.film(0))]
    rows = reviews.read_table(out / "metadata.csv")
    assert rows[0]["patient"] == rows[1]["patient"] != rows[2]["patient"]
    assert (rows[0]["spacing_y_mm"], rows[0]["spacing_x_mm"]) == ("0.2", "0.3")
    assert len({row["patient"] for row in rows}) == 2
    files = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    for text in (b"DOE", b"JANE", b"SECRET"):
        assert not any(text in data for data in files)
        assert not any(text.decode() in answer for answer in answers)
    with reviews.open_client(models_of(model), [films], out, show_header=True) as client:
        assert client.film(0)["header"]["PatientName"] == "DOE^JANE"


def _replace(path, shape):
    pixels = np.random.default_rng(7).integers(0, 255, shape, dtype=np.uint8)
    path.unlink()
    write_png(path, pixels)
    return pixels


def test_a_correction_of_a_changed_file_is_handed_on_with_its_own_image(own_films):
    folder, open_review = own_films
    with open_review() as client:
        client.wait()
        for i in range(2):
            client.judge(i, "accept")
    pixels = _replace(folder / "film_0.png", (64, 64))
    with open_review() as client:
        assert "has changed" in client.wait()[0]["warnings"][-1]
        drawn = np.eye(64, dtype=bool)
        assert client.save(0, drawn).status_code == 200
        store, film = client.review.store, client.of(0)
        np.testing.assert_array_equal(read_image(store.image(film)), pixels)
        np.testing.assert_array_equal(read_mask(store.mask(film)), drawn)
        assert not any("has changed" in words for words in client.list()[0]["warnings"])
    with open_review() as client:  # nor later
        assert not any("has changed" in words for words in client.list()[0]["warnings"])
        # A file that changes behind the page: the image stays the one that was drawn on.
        client.film(1)
        before = read_image(store.image(client.of(1)))
        _replace(folder / "film_1.png", (64, 64))
        assert client.save(1, drawn).status_code == 200
        np.testing.assert_array_equal(read_image(store.image(client.of(1))), before)


@pytest.mark.parametrize("corrected", [False, True])
def test_a_file_of_another_size_is_predicted_anew_once_it_is_reopened(own_films, corrected):
    folder, open_review = own_films
    with open_review() as client:
        client.wait()
        if corrected:
            client.save(0, np.eye(64, dtype=bool))
        else:
            client.judge(0, "accept")
    pixels = _replace(folder / "film_0.png", (50, 70))
    with open_review() as client:
        answer = client.http.get(client.address(0))
        assert answer.status_code == 422 and "another size" in answer.json()["error"]
        assert "reopen it" in answer.json()["error"]
        revision = client.row(0).revision
        assert client.save(0, np.eye(64, dtype=bool), revision).status_code == 422
        answer = client.judge(0, "reopen", revision=revision)
        assert answer.json() == {"revision": revision + 1, "state": "open"}
        film = client.wait()[0]
        assert (film["height"], film["width"], film["state"]) == (50, 70, "open")
        assert client.mask(0)[0].shape == (50, 70)
        found = client.http.get(f"{client.address(0)}/pixels").content
        assert found == pixels.tobytes()
        assert client.judge(0, "accept").status_code == 200
        np.testing.assert_array_equal(read_image(client.review.store.image(client.of(0))), pixels)
