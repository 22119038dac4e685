"""Takes review.png and review_tablet.png of the page of `jaxlung view`.

python docs/images/make_review_pictures.py

Needs Chromium with its driver (Debian: chromium-driver), selenium and jaxlung's extra [view]. The
films are phantoms: pictures of patients do not belong here.
"""

import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import jax
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.speed.review_page import PREDICTED, chromium, wait
from jaxlung.phantom import radiographs

HERE = Path(__file__).parent


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_films(folder / "films")
        command = [sys.executable, "-m", "jaxlung", "view", str(folder / "films")]
        command += ["--out", str(folder / "review"), "--no-browser"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout
        try:
            address = next(line.strip() for line in server.stdout if line.startswith("http"))
            with chromium() as driver:
                take(driver, address)
        finally:
            server.terminate()
            server.wait(20)


def make_films(folder: Path) -> None:
    """Eighteen patients; one film is cut at its side, one is dark and one is blurred."""
    folder.mkdir()
    images, _ = radiographs(jax.random.key(11), 18, size=768)
    for i, image in enumerate(images):
        if i == 4:
            image = image[:, 250:]
        elif i == 7:
            image = (image.astype(np.float32) * 0.25).astype(np.uint8)
        elif i == 12:
            image = cv2.GaussianBlur(image, (0, 0), 9)
        Image.fromarray(image).save(folder / f"patient_{i + 101}.png")


def take(driver, address: str) -> None:
    def resize(width: int, height: int, touch: bool) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.execute_cdp_cmd(
            "Emulation.setTouchEmulationEnabled", {"enabled": touch, "maxTouchPoints": 5}
        )
        time.sleep(1)

    def press(action: str) -> None:
        driver.execute_script(
            "document.querySelector(`[data-action=${arguments[0]}]`).click()", action
        )

    resize(1280, 800, False)
    driver.get(address)
    wait(driver, "document.getElementById('who').open")
    driver.execute_script("document.querySelector('#who button').click()")
    wait(driver, PREDICTED, 600)
    time.sleep(3)  # the list takes its order from the warnings
    for _ in range(4):
        driver.execute_script("document.getElementById('accept').click()")
        time.sleep(1.5)
    draw(driver)
    press("add")
    time.sleep(1)
    save(driver, "review.png")
    resize(820, 1180, True)
    press("probability")
    time.sleep(1)
    save(driver, "review_tablet.png")


def draw(driver) -> None:
    """A stroke at the right lung's lower edge, so that the film is a corrected one."""
    x, y, step = driver.execute_script(
        "const b = jaxlung.viewer.overlay.getBoundingClientRect(), v = jaxlung.viewer.view;"
        "const x = v.x + v.scale * 0.2 * jaxlung.viewer.info.width;"
        "const y = v.y + v.scale * 0.63 * jaxlung.viewer.info.height;"
        "return [b.left + x, b.top + y, 12]"
    )
    for i, kind in enumerate(["mousePressed", *["mouseMoved"] * 6, "mouseReleased"]):
        event = {"type": kind, "x": x + min(i, 6) * step, "y": y, "button": "left", "buttons": 1}
        driver.execute_cdp_cmd("Input.dispatchMouseEvent", {**event, "clickCount": 1})
    time.sleep(1)


def save(driver, name: str) -> None:
    picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    # A film has many greys, a page has few colours: 144 are enough.
    picture.quantize(144, dither=Image.Dither.NONE).save(HERE / name, optimize=True)
    print(name, (HERE / name).stat().st_size // 1000, "KB")


if __name__ == "__main__":
    main()
