"""The page of `jaxlung export --format html`, driven as a user drives it."""

import csv
import io
import shutil
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.helpers.pages import open_page


class Found(NamedTuple):
    """What the page saved."""

    rows: dict[str, dict[str, str]]  # of its table, by the file's name
    masks: dict[str, np.ndarray]  # uint8 [H, W] by the film's name
    sides: dict[str, np.ndarray]  # where both are known


def start_page(browser, path, width=1280, seconds=120):
    """Opens the page and waits until it can take films; returns its own time for that, ms."""
    open_page(browser, path, width)
    wait(browser, "return document.body.dataset.ready", seconds)
    return float(browser.execute_script("return document.body.dataset.ready"))


def wait(browser, script, seconds=120):
    """Waits until a script returns something true, and returns it."""
    end = time.monotonic() + seconds
    while not (found := browser.execute_script(script)):
        assert time.monotonic() < end, f"{script}: not within {seconds} s"
        time.sleep(0.05)
    return found


def give_films(browser, paths, seconds=120):
    """Chooses films, and waits until all have been seen."""
    browser.execute_script("document.getElementById('said').textContent = ''")
    browser.find_element("id", "files").send_keys("\n".join(map(str, paths)))
    wait(browser, "return document.getElementById('said').textContent.startsWith('Done')", seconds)


def save(browser, button, name, folder: Path) -> bytes:
    """Presses a button that saves a file, and returns the file."""
    downloads = folder / "downloads"
    shutil.rmtree(downloads, ignore_errors=True)
    downloads.mkdir()
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)}
    )
    browser.execute_script(f"document.getElementById('{button}').click()")
    end = time.monotonic() + 60
    # Firefox writes NAME.part first, beside an empty file of the name.
    while [path.name for path in downloads.iterdir() if path.stat().st_size] != [name]:
        assert time.monotonic() < end, f"{name} was not saved"
        time.sleep(0.05)
    return (downloads / name).read_bytes()


def save_all(browser, folder) -> Found:
    """Saves all masks and the table."""
    with zipfile.ZipFile(io.BytesIO(save(browser, "zip", "lungs.zip", folder))) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    table = csv.DictReader(io.StringIO(files.pop("summary.csv").decode()))
    rows = {row["image"]: row for row in table}
    pictures = {name: np.asarray(Image.open(io.BytesIO(data))) for name, data in files.items()}
    sides = {
        name.removeprefix("sides/").removesuffix(".png"): pictures.pop(name)
        for name in list(pictures)
        if name.startswith("sides/")
    }
    return Found(rows, {name.removesuffix(".png"): each for name, each in pictures.items()}, sides)


def compare(model, paths, found: Found) -> list[float]:
    """Asserts that the page found of each film what Python does; returns the Dice of the masks."""
    dice = []
    for path in paths:
        expected = model.prediction(path)
        row = found.rows[path.name]
        assert row["status"] == "ok", (path.name, row["error"])
        assert row["warnings"] == "; ".join(expected.warnings), path.name
        assert int(row["turned"]) == expected.degrees, path.name
        assert abs(float(row["confidence"]) - expected.confidence) <= 0.005, path.name
        mask = found.masks[row["name"]] > 0
        assert mask.shape == expected.mask.shape, path.name
        total = int(mask.sum() + expected.mask.sum())
        dice.append(2 * int((mask & expected.mask).sum()) / total if total else 1.0)
        assert dice[-1] >= 0.999, (path.name, dice[-1])
        assert (row["name"] in found.sides) == expected.sides_known, path.name
        if expected.sides_known:
            for label in (1, 2):
                own, other = found.sides[row["name"]] == label, expected.labels == label
                total = int(own.sum() + other.sum())
                assert 2 * int((own & other).sum()) / total >= 0.999, (path.name, label)
        if expected.spacing:
            area = int(expected.mask.sum()) * np.prod(expected.spacing)
            assert abs(float(row["lung_mm2"]) / area - 1) < 0.001, path.name
        else:
            assert row["lung_mm2"] == ""
    return dice
