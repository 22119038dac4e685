"""Reviews of `jaxlung view` for tests: films, a server in this process, and its client."""

import contextlib
import csv
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason='pip install -e ".[view]"')
with warnings.catch_warnings():  # starlette 1.10 would rather have httpx2, and takes both
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

from jaxlung.io.images import write_png
from jaxlung.phantom import radiographs
from jaxlung.predict.batch.modality import find_images_and_volumes
from jaxlung.view.app import make_app
from jaxlung.view.guard import Guard
from jaxlung.view.serve import open_review

PORT = 8123
ADDRESS = f"http://127.0.0.1:{PORT}"


def write_films(folder: Path, count=4, size=64) -> np.ndarray:
    """Writes phantoms film_I.png, and returns their true masks, bool [N, H, W]."""
    import jax

    images, masks = radiographs(jax.random.key(3), count, size=size)
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(np.asarray(images)):
        write_png(folder / f"film_{i}.png", image)
    return np.asarray(masks) > 0


def write_dicom(path: Path, pixels: np.ndarray, **attributes) -> Path:
    """Writes a 12-bit film of JANE DOE."""
    from tests.helpers.dicom_files import dicom, saved

    header = {"PatientName": "DOE^JANE", "PatientID": "SECRET-77", **attributes}
    path.parent.mkdir(parents=True, exist_ok=True)
    return saved(path, dicom(pixels.astype(np.uint16), bits=12, **header))


def read_table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def wait_until(is_so) -> None:
    end = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < end, "it never comes"
        time.sleep(0.02)


class Client:
    """A page's requests to a review in this process."""

    def __init__(self, review, http, guard):
        self.review, self.http, self.guard = review, http, guard

    def of(self, i):
        """The film of an id, or at a place in the list."""
        return self.review.films[i] if isinstance(i, str) else self.review.setup.films[i]

    def row(self, i):
        return self.review.rows[self.of(i).id]

    def address(self, i):
        return f"/api/films/{self.of(i).id}"

    def list(self):
        return self.http.get("/api/review").json()["films"]

    def wait(self):
        """Waits until all films are predicted, and returns the list."""
        wait_until(lambda: all(film["ready"] for film in self.list()))
        return self.list()

    def id_of(self, name):
        return next(film["id"] for film in self.list() if film["name"] == name)

    def film(self, i):
        answer = self.http.get(self.address(i))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def mask(self, i, z=0, which="current"):
        answer = self.http.get(f"{self.address(i)}/mask?slice={z}&which={which}")
        assert answer.status_code == 200, answer.text
        film = self.film(i)
        labels = np.frombuffer(answer.content, np.uint8).reshape(film["height"], film["width"])
        return labels, int(answer.headers["x-revision"])

    def save(self, i, mask, revision=None, z=0, **headers):
        revision = self.film(i)["revision"] if revision is None else revision
        return self.http.put(
            f"{self.address(i)}/mask?slice={z}",
            content=np.ascontiguousarray(mask, np.uint8).tobytes(),
            headers={"if-match": str(revision), **headers},
        )

    def judge(self, i, verdict, reason="", revision=None):
        revision = self.film(i)["revision"] if revision is None else revision
        return self.http.post(
            f"{self.address(i)}/verdict",
            json={"verdict": verdict, "reason": reason},
            headers={"if-match": str(revision)},
        )


@contextlib.contextmanager
def open_client(models, paths, out, **options):
    """Opens a review of what the paths lead to, and a page's client."""
    sources = find_images_and_volumes([*map(Path, paths)], but_not=out)
    with open_review(models, sources, out, **options) as review:
        guard = Guard(make_app(review), PORT)
        review.worker.start()
        try:
            with TestClient(guard, base_url=ADDRESS) as http:
                assert http.get(f"/?token={guard.token}").status_code == 200
                http.headers.update({"origin": ADDRESS, "x-jaxlung": "1"})
                yield Client(review, http, guard)
        finally:
            review.worker.stop()
