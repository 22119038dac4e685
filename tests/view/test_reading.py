"""The masks of `--masks`: compared with, shown, and named where they do not fit."""

import numpy as np
import pytest

from jaxlung.errors import InputError
from jaxlung.io.images import write_png
from jaxlung.predict.batch.models import models_of
from tests.helpers import reviews


def test_masks_that_are_given_are_compared_with_the_models(model, tmp_path):
    reviews.write_films(tmp_path / "films" / "a", 4)
    given = tmp_path / "given"
    given.mkdir()
    first = [model.prediction(tmp_path / "films" / "a" / f"film_{i}.png").mask for i in range(4)]
    far = np.roll(first[1], 30, axis=1)
    write_png(given / "film_0.png", first[0].astype(np.uint8) * 255)
    write_png(given / "film_1_mask.png", far.astype(np.uint8) * 255)
    write_png(given / "film_2.png", np.eye(9, dtype=np.uint8) * 255)
    folder, out = tmp_path / "films", tmp_path / "review"
    with reviews.open_client(models_of(model), [folder], out) as client:
        assert all(film["given_dice"] is None for film in client.wait())
    # Given later, they are compared with what was predicted before.
    with reviews.open_client(models_of(model), [folder], out, masks=given) as client:
        for i in range(3):
            client.film(i)
        reviews.wait_until(lambda: client.list()[2]["warnings"])
        same, different, misfit, without = client.list()
        assert client.http.get("/api/review").json()["has_given"]
        assert same["given_dice"] == 1 and without["given_dice"] is None
        expected = 2 * (first[1] & far).sum() / (first[1].sum() + far.sum())
        assert different["given_dice"] == pytest.approx(expected, abs=1e-4)
        assert "film_2.png" in misfit["warnings"][-1] and "9x9" in misfit["warnings"][-1]
        assert str(tmp_path) not in misfit["warnings"][-1]
        np.testing.assert_array_equal(client.mask(1, which="given")[0] > 0, far)
        assert client.http.get(f"{client.address(3)}/mask?which=given").status_code == 404


def test_a_folder_without_a_mask_of_any_film_is_refused(model, tmp_path):
    reviews.write_films(tmp_path / "films", 1)
    (tmp_path / "given").mkdir()
    paths, options = [tmp_path / "films"], {"masks": tmp_path / "given"}
    opened = reviews.open_client(models_of(model), paths, tmp_path / "review", **options)
    with pytest.raises(InputError, match="holds no mask of these 1 films"), opened:
        pass
