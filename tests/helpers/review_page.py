"""A review in this process, its page in Chromium, and what pointers and keys do there."""

import contextlib
import json
import socket
import threading
import time
import types
from pathlib import Path

import numpy as np

from tests.helpers.pages import touch_screen


def lungs(height, width):
    """Labels of two ellipses, the patient's right lung on the left; its outline is exact."""
    y, x = np.mgrid[:height, :width] + 0.5
    labels = np.zeros((height, width), np.uint8)
    for side, centre in ((1, 0.3), (2, 0.7)):
        inside = ((x / width - centre) / 0.14) ** 2 + ((y / height - 0.5) / 0.3) ** 2 <= 1
        labels[inside] = side
    return labels


def film_of(labels, seed, most=255):
    """A picture whose lungs are dark, with some noise."""
    rng = np.random.default_rng(seed)
    grey = 150 - 90 * (labels > 0) + rng.normal(0, 8, labels.shape)
    return np.clip(grey * (most / 255), 0, most).astype(np.uint8 if most == 255 else np.uint16)


def predict_at_once(models, film, key):
    """Stands for `first.predict_first`: the lungs are where `lungs` puts them, or the voxels."""
    from jaxlung.io.ct.hounsfield import read_scan
    from jaxlung.io.images import read_film
    from jaxlung.masks.bodies import label_lung_bodies
    from jaxlung.view import first
    from jaxlung.view.pictures import show_film, show_slice

    fields = {"ready": True, "error": None, "stamp": film.source.stamp, "patient": ""}
    fields |= {"confidence": 0.98 - 0.01 * (film.place % 5), "sides_known": True}
    with first.errors_named(film), first.on_disk(film.source) as path:
        if film.source.is_volume:
            volume = read_scan(path)
            labels = label_lung_bodies(abs(volume.voxels_ZxHxW + 800) < 50)
            slices, height, width = labels.shape
            fields |= {"slices": slices, "first_slice": slices // 2}
            shown = show_slice(volume.voxels_ZxHxW[slices // 2])
        else:
            volume, shown = None, show_film(read_film(path).image)
            height, width = shown.pixels_HxW.shape
            labels = lungs(height, width)
    fields |= {"height": height, "width": width}
    probability = None if volume else labels * np.uint8(100)
    return first.First(fields, shown, labels, probability, volume)


def stand_in(patch):
    """Lets no network run: masks and probabilities are those of `predict_at_once`."""

    def probability(models, film):
        return predict_at_once(models, film, b"").probability_HxW

    patch.setattr("jaxlung.view.first.predict_first", predict_at_once)
    patch.setattr("jaxlung.view.first.film_probability", probability)
    patch.setattr(
        "jaxlung.view.first.slice_probability",
        lambda model, hu_HxW: (abs(hu_HxW + 800) < 50) * np.uint8(200),
    )


class Served:
    """A review that is served, with `address`; `stop` and `start` are a server that goes away."""

    def __init__(self, paths, out, volumes=False, masks=None):
        self.paths, self.out, self.volumes, self.masks = paths, out, volumes, masks
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self):
        import uvicorn

        from jaxlung.config import load_recipe, parse_config
        from jaxlung.predict.batch.sources import find_sources
        from jaxlung.view.app import make_app
        from jaxlung.view.guard import Guard
        from jaxlung.view.serve import open_review, open_socket

        recipe = load_recipe("ct" if self.volumes else "cxr")
        recipe.data.dir = "." if self.volumes else ""  # the recipe of CT wants a folder
        model = types.SimpleNamespace(
            output="lung",
            workdir="phantom",
            variables={},
            tta=False,
            turn=False,
            bundled=True,
            config=parse_config(recipe.to_dict()),
        )
        kind = "ct" if self.volumes else "xray"
        models = types.SimpleNamespace(**{"xray": None, "ct": None, kind: model})
        self.closing = contextlib.ExitStack()
        sources = find_sources(self.paths, volumes=self.volumes)
        self.review = self.closing.enter_context(
            open_review(models, sources, self.out, masks=self.masks, model="phantom")
        )
        listener = self.closing.enter_context(open_socket("127.0.0.1", self.port))
        app = make_app(self.review)
        secret = self.review.store.derive(f"cookie {self.port}")
        self.guard = Guard(app, self.port, secret=secret)
        config = uvicorn.Config(self.guard, log_level="warning", lifespan="off", ws="none")
        self.server = uvicorn.Server(config)
        run = self.server.run
        self.thread = threading.Thread(target=run, kwargs={"sockets": [listener]}, daemon=True)
        self.review.worker.start()
        self.thread.start()
        wait_for(lambda: self.server.started)
        return self

    def stop(self):
        self.server.force_exit = self.server.should_exit = True
        self.thread.join(20)
        with self.review.lock:
            pass  # what a request has begun ends in a thread of its own
        self.review.worker.stop()
        self.closing.close()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}/?token={self.guard.token}"

    def mask(self, name):
        """The film's mask on disk, as bool."""
        from PIL import Image

        return np.asarray(Image.open(Path(self.out) / "masks" / f"{name}.png")) > 0


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


class ReviewPage:
    """The page in a browser; points are pixels of the film."""

    def __init__(self, browser, address, width=1280, height=800, touch=False, who="A. Reader"):
        self.browser, self.touch, self.width = browser, touch, width
        browser.get("about:blank")
        touch_screen(browser, width, height, touch)
        for log in ("browser", "performance"):
            browser.get_log(log)
        self.open(address, who)

    def open(self, address, who=None):
        self.browser.get(address)
        self.wait("jaxlung.viewer.slice || document.querySelector('dialog[open]')")
        if who is not None:
            self.wait("document.getElementById('who').open")
            self.run("document.getElementById('whoName').value = arguments[0]", who)
            self.click("#who .main")

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def wait(self, expression, seconds=60):
        # A slice, whose pixels the driver would send one by one, is as good as true.
        script = (
            f"try {{ const found = {expression}; return found instanceof Object || found }}"
            "catch { return false }"
        )
        return wait_for(lambda: self.run(script), seconds)

    def click(self, selector):
        self.browser.find_element("css selector", selector).click()

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def name(self):
        return self.text("#name")

    def keys(self, *keys, shift=False):
        from selenium.webdriver import ActionChains, Keys

        actions = ActionChains(self.browser, duration=0)
        if shift:
            actions.key_down(Keys.SHIFT)
        actions.send_keys(*keys)
        if shift:
            actions.key_up(Keys.SHIFT)
        actions.perform()

    def tool(self, action):
        self.run("document.querySelector(`[data-action=${arguments[0]}]`).click()", action)

    def size(self, pixels):
        self.run("jaxlung.viewer.setSize(arguments[0])", pixels)

    def wait_saved(self):
        self.wait("!jaxlung.queue.has()")

    def mask(self):
        """The mask of the page's own buffer, as labels."""
        script = (
            "const {slice, entry} = jaxlung.viewer.shown; if (!slice) return null; let t = '';"
            "for (const v of slice.mask) t += v; return [t, entry.info.height, entry.info.width]"
        )
        text, *shape = wait_for(lambda: self.run(script))  # a film may be on its way
        return (np.frombuffer(text.encode(), np.uint8) - 48).reshape(shape)

    def place(self, x, y):
        """Whole pixels of the window near a point of the film, and the point there exactly."""
        box, view, ratio = self.run(
            "const b = jaxlung.viewer.overlay.getBoundingClientRect(), v = jaxlung.viewer;"
            "return [[b.left, b.top], v.view, v.ratio]"
        )
        place, point = [], []
        for value, start, axis in ((x, box[0], "x"), (y, box[1], "y")):
            client = round((view[axis] + value * view["scale"]) / ratio + start)
            place.append(client)
            point.append(((client - start) * ratio - view[axis]) / view["scale"])
        return place, point

    def drag(self, points, button="left"):
        """Presses at the first point, moves over the others and lets go; returns where it was."""
        found = [self.place(*point) for point in points]
        if self.touch and button == "left":
            for i, (place, _) in enumerate(found):
                self.fingers("touchMove" if i else "touchStart", [place])
            self.fingers("touchEnd", [])
        else:
            for i, ((x, y), _) in enumerate(found):
                kind = "mouseMoved" if i else "mousePressed"
                self._mouse(kind, x, y, button=button, clickCount=1, buttons=1 + (button != "left"))
            self._mouse("mouseReleased", x, y, button=button, clickCount=1)
        return [point for _, point in found]

    def fingers(self, kind, places):
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
        self.browser.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": points}
        )

    def wheel(self, point, delta):
        (x, y), _ = self.place(*point)
        self._mouse("mouseWheel", x, y, deltaX=0, deltaY=delta)

    def _mouse(self, kind, x, y, **more):
        event = {"type": kind, "x": x, "y": y, "pointerType": "mouse", **more}
        self.browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)

    def requested(self):
        """All addresses that the browser asked for since the page was opened."""
        messages = (
            json.loads(e["message"])["message"] for e in self.browser.get_log("performance")
        )
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def check_quiet(self, *expected):
        """No line on the console, but those of requests that the test let fail."""
        lines = [line["message"] for line in self.browser.get_log("browser")]
        assert not [line for line in lines if not any(words in line for words in expected)]


def stroke_mask(mask, points, diameter):
    """The pixels whose centre is at most half a diameter away from a line through the points."""
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    found = np.zeros(mask.shape, bool)
    for (x0, y0), (x1, y1) in zip(points[:1] + points, points, strict=False):
        length2 = (x1 - x0) ** 2 + (y1 - y0) ** 2
        along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length2 if length2 else 0 * x
        along = np.clip(along, 0, 1)
        apart = (x - x0 - along * (x1 - x0)) ** 2 + (y - y0 - along * (y1 - y0)) ** 2
        found |= apart <= diameter**2 / 4
    return found


def polygon_mask(shape, points):
    """The pixels whose centre is in a polygon, by counting the sides to the left of it."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if y0 == y1:
            continue
        spans = (y0 <= y) != (y1 <= y)
        inside ^= spans & (x0 + (y - y0) / (y1 - y0) * (x1 - x0) <= x)
    return inside
