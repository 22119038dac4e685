"""Times the page of `jaxlung view` in Chromium: python benchmarks/speed/review_page.py

Needs Chromium with its driver (Debian: chromium-driver), selenium and jaxlung's extra [view]. Shows
phantoms: the next film, 1024x1024, from the key to its first frame; then a stroke over a film of
2048x2500, with pointer events at each frame. All times are what the page itself measured.

With --list 5000 it measures memory instead (Linux): the most that the server has held once that
many films of 128x128 are listed, once all are predicted, and once some have been looked at.
"""

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PREDICTED = "[...jaxlung.films.values()].every((film) => film.ready)"
STROKE = """
const done = arguments[arguments.length - 1], seconds = arguments[0];
const target = document.getElementById('viewer'), box = target.getBoundingClientRect();
const event = (type, t, buttons) => target.dispatchEvent(new PointerEvent(type, {
  pointerId: 7, pointerType: 'pen', buttons, button: 0, bubbles: true, cancelable: true,
  clientX: box.left + box.width * (0.5 + 0.3 * Math.cos(4 * t)),
  clientY: box.top + box.height * (0.5 + 0.3 * Math.sin(4 * t)) }));
performance.clearMeasures('stroke');
event('pointerdown', 0, 1);
const frames = [], start = performance.now();
requestAnimationFrame(function step(now) {
  frames.push(now);
  const t = (performance.now() - start) / 1000;
  for (const part of [0.75, 0.5, 0.25, 0]) event('pointermove', t - part / 60, 1);
  if (t < seconds || frames.length < 9) return requestAnimationFrame(step); // of a slow machine
  event('pointerup', t, 0);
  done([frames, performance.getEntriesByName('stroke').map((e) => e.duration)]);
});
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=12, help="of 1024x1024 pixels")
    parser.add_argument("--seconds", type=float, default=5, help="of the stroke")
    parser.add_argument("--list", type=int, metavar="N", help="memory with N films, instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.list:
            make_small_films(folder / "films", arguments.list)
        else:
            make_films(folder / "films", arguments.films)
        with serve(folder) as (address, server), chromium() as driver:
            driver.get(address)
            wait(driver, "document.getElementById('who').open")
            driver.execute_script("document.querySelector('#who button').click()")
            if arguments.list:
                return measure_memory(driver, server, arguments.films)
            wait(driver, PREDICTED, 600)
            show_next(driver, arguments.films)
            draw(driver, arguments.seconds)


def measure_memory(driver: Any, server: int, count: int) -> None:
    print(f"server at most {peak_mb(server)} MB, all films listed", flush=True)
    wait(driver, PREDICTED, 3 * 3600)
    print(f"server at most {peak_mb(server)} MB, all films predicted", flush=True)
    show_next(driver, count)
    print(f"server at most {peak_mb(server)} MB, {count} films looked at")


def peak_mb(process: int) -> int:
    """Returns the most memory that a process has held, in 10^6 bytes (VmHWM, in KiB)."""
    status = Path(f"/proc/{process}/status").read_text()
    [line] = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) * 1024 / 1e6)


def show_next(driver: Any, count: int) -> None:
    shown = "performance.getEntriesByName('next-film')"
    for _ in range(count - 1):
        # The next ones are fetched while a person looks at this one.
        wait(driver, "jaxlung.cache.entries.size >= Math.min(4, jaxlung.films.size)")
        time.sleep(1)
        before = driver.execute_script(f"return {shown}.length")
        driver.execute_script("document.getElementById('accept').click()")
        wait(driver, f"{shown}.length > {before}")
    found = driver.execute_script(f"return {shown}.map((entry) => entry.duration)")[1:]
    print_times("next film, from the key to its frame", found)


def draw(driver: Any, seconds: float) -> None:
    driver.execute_script(
        "const big = [...jaxlung.films.values()].find((film) => film.height === 2500);"
        "document.getElementById('search').value = big.name;"
        "document.getElementById('search').dispatchEvent(new Event('input'));"
    )
    time.sleep(0.5)
    driver.execute_script("document.querySelector('[role=option]').click()")
    wait(driver, "jaxlung.viewer.info?.height === 2500")
    for zoom in ("fitted", "at its own size"):
        if zoom != "fitted":
            driver.execute_script("jaxlung.viewer.zoom(1 / jaxlung.viewer.view.scale)")
        frames, drawn = driver.execute_async_script(STROKE, seconds)
        gaps = np.diff(frames)
        rate = 1000 / gaps.mean()
        print(f"stroke on 2048x2500, {zoom}: {rate:.0f} frames a second on average,", end=" ")
        print(f"slowest of 100 gaps {np.percentile(gaps, 99):.0f} ms")
        print_times("  from the pen to its frame", drawn)


def print_times(what: str, milliseconds: list[float]) -> None:
    middle, most = np.percentile(milliseconds, [50, 95])
    print(f"{what}: median {middle:.0f} ms, 95 % under {most:.0f} ms, n {len(milliseconds)}")


def make_small_films(folder: Path, count: int) -> None:
    import jax
    from PIL import Image

    from jaxlung.phantom import radiographs

    folder.mkdir()
    images, _ = radiographs(jax.random.key(0), count, size=128)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"film_{i:05d}.png")


def make_films(folder: Path, count: int) -> None:
    import cv2
    import jax
    from PIL import Image

    from jaxlung.phantom import radiographs

    folder.mkdir()
    images, _ = radiographs(jax.random.key(0), count, size=512)
    for i, image in enumerate(images):
        large = cv2.resize(image, (1024, 1024), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(large).save(folder / f"film_{i:03d}.png")
    whole = cv2.resize(images[0], (2048, 2500), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(whole).save(folder / "large.png")


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[tuple[str, int]]:
    """Gives the address and the id of the server's process."""
    command = [sys.executable, "-m", "jaxlung", "view", str(folder / "films"), "--no-tta"]
    command += ["--out", str(folder / "review"), "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        address = next(line.strip() for line in server.stdout if line.startswith("http"))
        yield address, server.pid
    finally:
        server.terminate()
        server.wait(20)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,800"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(120)
    try:
        yield driver
    finally:
        driver.quit()


def wait(driver: Any, expression: str, seconds: float = 120) -> None:
    """Waits until an expression of the page is true; what fails meanwhile may be on its way."""
    end = time.monotonic() + seconds
    script = f"try {{ return Boolean({expression}) }} catch (error) {{ return String(error) }}"
    while (found := driver.execute_script(script)) is not True:
        if time.monotonic() > end:
            raise SystemExit(f"waited {seconds:.0f} s in vain for {expression}: {found}")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
