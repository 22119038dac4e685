"""Times the page of `jaxlung export --format html` in Chromium, opened from disk.

    python -m benchmarks.speed.page_speed lungs.html

Prints how long the page takes until it can take films, and a film of 1024x1024: best and median of
several. Needs Chromium and its driver.
"""

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from jaxlung import phantom
from tests.helpers.film_page import give_films, save_all, start_page

LOADS, FILMS = 7, 12


def main() -> None:
    """Times loads and films."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    page = parser.parse_args().page.resolve()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless", "--no-sandbox", "--disable-gpu"):
        options.add_argument(flag)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    films, _ = phantom.radiographs(jax.random.key(0), FILMS, size=512)
    with tempfile.TemporaryDirectory() as folder, webdriver.Chrome(options, service) as browser:
        paths = []
        for i, film in enumerate(np.asarray(films)):
            paths.append(Path(folder) / f"{i}.png")
            Image.fromarray(film).resize((1024, 1024)).save(paths[-1])
        ready = [start_page(browser, page) / 1000 for _ in range(LOADS)]
        give_films(browser, paths)
        rows = save_all(browser, Path(folder)).rows.values()
    for name, times in (("ready", ready), ("film", [float(row["seconds"]) for row in rows])):
        print(f"{name}: best {min(times):.3f} s, median {statistics.median(times):.3f} s")


if __name__ == "__main__":
    main()
