"""The review page in Chromium: what is drawn is on disk to the pixel, and nothing is lost."""

import contextlib
import csv
import gzip
import io
import json
import re
import signal
import subprocess
import sys
import threading
import types
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxlung
from tests.helpers.review_page import (
    ReviewPage,
    Served,
    film_of,
    lungs,
    polygon_mask,
    stand_in,
    stroke_mask,
    wait_for,
)

for needed in ("starlette", "uvicorn"):
    pytest.importorskip(needed, reason='pip install -e ".[view]"')

PAGE = Path(jaxlung.__file__).parent / "view" / "page"
SCREEN = Path(jaxlung.__file__).parent / "screen"  # what it shares with the page of an export
HEIGHT, WIDTH = 150, 130
NAME = "document.getElementById('name').textContent"


@pytest.fixture
def at_once(monkeypatch):
    """No network: the first masks are `lungs`."""
    stand_in(monkeypatch)


def films(folder, count, shape=(HEIGHT, WIDTH)):
    folder.mkdir()
    for i in range(count):
        Image.fromarray(film_of(lungs(*shape), i)).save(folder / f"film_{i:02d}.png")
    return folder


@pytest.fixture
def served(at_once, tmp_path):
    review = Served([films(tmp_path / "films", 5)], tmp_path / "review").start()
    yield review
    review.stop()


def rows(served):
    with open(served.out / "review.csv", newline="", encoding="utf-8") as file:
        return {row["film"]: row for row in csv.DictReader(file)}


def check_accessible(page, *selectors):
    """axe-core finds nothing serious; what can be clicked is large enough (WCAG 2.5.8)."""
    axe = pytest.importorskip("axe_core_python", reason="pip install -e '.[test]'")
    page.run((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.browser.execute_async_script(
        "const done = arguments[0]; axe.run().then(done, e => done(String(e)))"
    )
    faults = [
        (fault["id"], [node["html"] for node in fault["nodes"]])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert not faults
    assert len(found["passes"]) > 20
    small = page.run(
        "const least = arguments[0];"
        "return [...document.querySelectorAll('button, input:not([type=radio]):not([type=checkbox])"
        ", select, summary')].filter(e => e.checkVisibility({visibilityProperty: true}))"
        ".map(e => [e.outerHTML.slice(0, 60), e.getBoundingClientRect()])"
        ".filter(([, b]) => b.height < least || b.width < least).map(([html]) => html)",
        40 if page.touch else 24,
    )
    assert not small
    assert page.run("return [innerWidth, document.documentElement.scrollWidth]") == [page.width] * 2


def test_a_film_is_corrected_and_another_rejected(served, browser):
    """The short journey; the long one goes over 40 films and three screens."""
    page = ReviewPage(browser, served.address)
    page.wait("jaxlung.films.size == 5 && [...jaxlung.films.values()].every(f => f.ready)")
    assert page.text("#count") == "0 of 5 looked at"
    first = page.name()
    assert first == "film_00"
    check_accessible(page)
    expected = lungs(HEIGHT, WIDTH) > 0
    assert np.array_equal(page.mask() > 0, expected)

    page.size(11)
    [dab] = page.drag([(65, 20)])
    expected |= stroke_mask(expected, [dab], 11)
    page.tool("eraser")
    line = page.drag([(30, 60), (50, 75), (50, 95)])
    expected &= ~stroke_mask(expected, line, 11)
    page.tool("add")
    corners = [page.drag([corner])[0] for corner in [(60, 60), (80, 62), (70, 110)]]
    page.keys("\ue007")
    expected |= polygon_mask(expected.shape, corners)
    page.tool("brush")
    page.drag([(10, 10), (100, 140)])
    page.keys("z")  # the last stroke is taken back
    assert np.array_equal(page.mask() > 0, expected)
    page.wait_saved()
    assert np.array_equal(served.mask(Path(first).stem), expected)
    assert rows(served)[first]["state"] == "corrected"

    page.keys("a")
    second = page.wait(
        f"document.getElementById('name').textContent != '{first}' && "
        "document.getElementById('name').textContent"
    )
    page.keys("x")
    page.keys("2")
    page.click("#why .main")
    page.wait(f"document.getElementById('name').textContent != '{second}'")
    page.wait_saved()
    assert rows(served)[second]["state"] == "rejected"
    assert rows(served)[second]["reason"] == "Lungs are cut off"
    assert rows(served)[second]["reviewer"] == "A. Reader"

    page.open(f"http://127.0.0.1:{served.port}/")
    assert page.text("#count") == "2 of 5 looked at"
    assert page.name() not in (first, second)
    assert not page.run("return document.getElementById('who').open")
    page.run("document.querySelectorAll('[role=option]')[0].scrollIntoView()")
    page.run(
        f"[...document.querySelectorAll('[role=option]')]"
        f".find(e => e.textContent.includes('{first}')).click()"
    )
    page.wait(f"document.getElementById('name').textContent == '{first}' && jaxlung.viewer.slice")
    assert np.array_equal(page.mask() > 0, expected)

    page.click("#finish")
    page.wait("!document.getElementById('doneMore').hidden", 300)
    assert "training needs" in page.text("#doneText")  # the long journey has enough
    assert page.run("return document.getElementById('report').pathname") == "/report"
    page.check_quiet()
    asked = page.requested()
    assert len(asked) > 20
    assert all(url.startswith((f"http://127.0.0.1:{served.port}/", "about:")) for url in asked)


def in_page(page, module, body, *arguments):
    """Runs a function's body with a module of the page as `m`."""
    found = page.browser.execute_async_script(
        f"const done = arguments[arguments.length - 1], a = arguments;"
        f"import('/page/{module}').then((m) => {{ {body} }}).then(done, (e) => done(String(e)))",
        *arguments,
    )
    assert not isinstance(found, str), found
    return found


@pytest.fixture(scope="module")
def shown(browser, tmp_path_factory):
    """A page that tests of single modules share."""
    root = tmp_path_factory.mktemp("shown")
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        review = Served([films(root / "films", 3)], root / "review").start()
        yield ReviewPage(browser, review.address)
        review.stop()


def test_tools_change_the_pixels_that_they_say(shown):
    """Holes, smoothing and shapes beyond the border, against numpy and scipy."""
    from scipy import ndimage

    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(size=(60, 70)), 2) > 0.05
    mask = [int(v) for v in noise.ravel()]
    run = "const k = Uint8Array.from(a[0]); const r = m.%s; return [...k]"
    filled = in_page(shown, "tools.js", run % "fillHoles(k, 70, 60)", mask)
    assert np.array_equal(np.reshape(filled, (60, 70)) > 0, ndimage.binary_fill_holes(noise))
    smooth = in_page(shown, "tools.js", run % "smooth(k, 70, 60, 2)", mask)
    count = ndimage.convolve(noise.astype(int), np.ones((5, 5), int), mode="constant")
    inside = np.reshape(smooth, (60, 70)) > 0
    y, x = np.nonzero(noise)
    box = np.s_[y.min() : y.max() + 1, x.min() : x.max() + 1]
    assert np.array_equal(inside[box], (count > 12)[box]) and inside.sum() == inside[box].sum()
    corners = [(-8.5, 10.25), (40.75, -3), (66.5, 80.125), (20, 30)]
    points = [{"x": x, "y": y} for x, y in corners]
    shape = in_page(shown, "tools.js", run % "polygon(k, 70, 60, a[1], 1)", [0] * 4200, points)
    assert np.array_equal(np.reshape(shape, (60, 70)) > 0, polygon_mask((60, 70), corners))
    stroke = "stroke(k, 70, 60, {x: -4, y: 3.5}, {x: 75.25, y: 44}, 6.5, 0)"
    erased = in_page(shown, "tools.js", run % stroke, [2] * 4200)
    line = stroke_mask(noise, [(-4, 3.5), (75.25, 44)], 13)
    assert np.array_equal(np.reshape(erased, (60, 70)) == 0, line)


def test_packed_masks_come_back(shown):
    mask = [i * i % 7 % 2 for i in range(1003)]
    body = "return [...m.unpack(m.pack(Uint8Array.from(a[0])), 1003)]"
    assert in_page(shown, "saves.js", body, mask) == mask


def test_history_forgets_the_oldest_steps_above_its_limit(shown):
    body = """
      const h = new m.History(4000), k = new Uint8Array(1000), seen = [];
      for (let i = 0; i < 5; i++) {
        h.begin(k);
        k[i] = 1;
        h.commit(k, 100, {x0: 0, y0: 0, x1: 100, y1: 10}, 0);
      }
      h.begin(k);
      const nothing = h.commit(k, 100, {x0: 0, y0: 0, x1: 100, y1: 10}, 0);
      for (let s = h.undo(); s; s = h.undo()) {
        m.paste(k, 100, s.rect, s.part);
        seen.push(k.join(''));
      }
      for (let s = h.redo(); s; s = h.redo()) m.paste(k, 100, s.rect, s.part);
      return [nothing, seen.length, k.slice(0, 6).join('')]"""
    assert in_page(shown, "history.js", body) == [False, 2, "111110"]


def test_thousands_of_films_are_a_few_rows(shown):
    """Five thousand films: the rows in sight alone are on the page, in order of attention."""
    body = """
      const root = document.createElement('div');
      root.style.height = '400px'; root.style.overflow = 'auto';
      document.body.append(root);
      const film = (_, index) => ({id: `x${index}`, index, name: `f${index}`, ready: true,
        warnings: [], error: null, given_dice: null, confidence: 0.9, state: 'open', reason: '',
        attention: index % 100});
      const films = m.order(Array.from({length: 5000}, film));
      let opened = 0;
      const list = new m.List(root, {open: (id) => { opened = id; list.select(id); },
        thumbnail: () => 'data:,', unsaved: () => false});
      list.set(films, films[0].id);
      for (const key of ['End', 'ArrowUp']) root.dispatchEvent(new KeyboardEvent('keydown', {key}));
      const rows = [...root.querySelectorAll('[role=option]')];
      const last = rows.map((r) => Number(r.getAttribute('aria-posinset')));
      root.remove();
      return [films[0].index, rows.length, Math.max(...last), opened]"""
    first, count, last, opened = in_page(shown, "list.js", body)
    assert (first, last, opened) == (99, 5000, "x4800") and count < 20


def test_outline_keeps_its_thickness_at_every_scale(shown):
    """A half plane's outline is two pixels of the screen thick, however large the film's are."""
    body = """
      const canvas = document.createElement('canvas');
      canvas.width = 60; canvas.height = 60;
      const c = canvas.getContext('2d'), out = [];
      for (const scale of [0.25, 1, 7]) {
        const width = Math.ceil(60 / scale), mask = new Uint8Array(width * width);
        for (let i = 0; i < mask.length; i++) mask[i] = i % width < width / 2 ? 1 : 0;
        m.drawMask(c, {x0: 0, y0: 0, x1: 60, y1: 60}, {scale, x: 0, y: 0},
          {width, height: width, mask}, {outline: true, reach: 1});
        const row = c.getImageData(0, 30, 60, 1).data.filter((_, i) => i % 4 === 3);
        out.push([...row].filter((a) => a > 200).length - 1);  // one at the film's own border
      }
      return out"""
    assert in_page(shown, "draw.js", body) == [2, 2, 2]


def test_films_are_dropped_above_the_bound_of_memory(shown):
    body = """
      const server = {film: async () => ({bits: 8, width: 100, first_slice: 0}),
        layer: async () => ({buffer: new ArrayBuffer(10000), revision: 0})};
      const cache = new m.Cache(server, {pending: () => null, unsaved: () => false,
        shown: () => ({}), arrived() {}}, 100000);
      await cache.prefetch(Array.from({length: 9}, (_, id) => ({id})));
      return [...cache.entries.keys()]"""
    assert in_page(shown, "cache.js", "return (async () => {" + body + "})()") == [6, 7, 8]


def test_window_zoom_and_layers(shown):
    page = shown
    page.wait("[...jaxlung.films.values()].every(f => f.ready)")
    middle = (
        "return [...jaxlung.viewer.base.getContext('2d').getImageData(...arguments[0], 1, 1).data]"
    )
    overlay = middle.replace("base", "overlay")
    page.keys("0")
    at = page.run(
        "const v = jaxlung.viewer.view; return [Math.round(v.x + v.scale * 39), "
        "Math.round(v.y + v.scale * 75)]"
    )
    grey = page.run(middle, at)[0]
    low, high = page.run("return [jaxlung.viewer.low, jaxlung.viewer.high]")
    page.drag([(65, 75), (65, 40)], button="right")  # the level sinks: all is brighter
    assert page.run("return jaxlung.viewer.low") < low
    assert page.run(middle, at)[0] > grey
    page.keys("r")
    assert page.run("return [jaxlung.viewer.low, jaxlung.viewer.high]") == [low, high]
    assert page.run(overlay, at) == [0, 0, 0, 0]  # inside the outline
    page.keys("o")
    red, green, blue, alpha = page.run(overlay, at)
    assert red > blue and 0 < alpha < 255  # filled, in the right lung's colour
    page.keys("o")
    assert page.run(overlay, at)[3] == 0  # hidden
    page.keys("t")
    assert page.run(overlay, at)[3] > 0  # probability
    page.keys("t", "o")
    scale = page.run("return jaxlung.viewer.view.scale")
    page.wheel((65, 75), -240)
    page.wait(f"jaxlung.viewer.view.scale > {scale * 1.2}")
    page.keys("0")


def test_the_keyboard_alone_draws(served, browser):
    page = ReviewPage(browser, served.address)
    page.wait("[...jaxlung.films.values()].every(f => f.ready)")
    page.run("document.getElementById('viewer').focus()")
    expected = page.mask() > 0
    page.keys("b")
    page.size(7)
    page.keys("\ue014", shift=True)  # the cursor comes, and moves by a pixel
    x, y = page.run("const c = jaxlung.viewer.cursor.point; return [c.x, c.y]")
    assert (x, y) == (WIDTH / 2 + 1.5, HEIGHT / 2 + 0.5)
    page.keys(" ")
    expected |= stroke_mask(expected, [(x, y)], 7)
    page.keys("\ue007", "\ue015", "\ue007")  # pen down, an arrow, pen up
    step = page.run("return jaxlung.viewer.cursor.point.y") - y
    assert step > 1
    expected |= stroke_mask(expected, [(x, y), (x, y + step)], 7)
    assert np.array_equal(page.mask() > 0, expected)
    page.keys("c", " ", "\ue012", " ", "\ue013", " ", "\ue007")  # cut a triangle
    corners = [(x, y + step), (x - step, y + step), (x - step, y)]
    expected &= ~polygon_mask(expected.shape, corners)
    assert np.array_equal(page.mask() > 0, expected)
    name = page.name()
    page.wait_saved()
    assert np.array_equal(served.mask(Path(name).stem), expected)
    page.keys("?")
    page.wait("document.getElementById('keys').open")
    assert "Polygon, cut" in page.text("#keys")
    check_accessible(page)
    page.click("#single")  # single keys can be switched off (WCAG 2.1.4)
    page.click("#keys .main")
    page.keys("n")
    assert page.name() == name
    page.run("document.getElementById('single').click()")
    page.check_quiet()


def draw_while_away(page, served):
    """Stops the server and draws; returns the film's name and the mask to come."""
    page.wait("[...jaxlung.films.values()].every(f => f.ready)")
    name = page.name()
    expected = page.mask() > 0
    page.size(9)
    served.stop()
    points = page.drag([(20, 20), (60, 25)])
    expected |= stroke_mask(expected, points, 9)
    page.wait("document.getElementById('saving').dataset.state == 'away'")
    return name, expected


def test_what_is_drawn_while_the_server_is_away_is_sent_later(served, browser):
    """The open page sends it; and a page that was closed meanwhile, from what the browser kept."""
    page = ReviewPage(browser, served.address)
    name, expected = draw_while_away(page, served)
    assert "Not saved yet" in page.text("#live")
    served.start()
    page.wait_saved()
    assert np.array_equal(served.mask(Path(name).stem), expected)

    served.stop()
    points = page.drag([(20, 120), (110, 125)])
    expected |= stroke_mask(expected, points, 9)
    page.wait("document.getElementById('saving').dataset.state == 'away'")
    browser.get("about:blank")  # WebDriver says yes to the warning on leaving
    served.start()
    page.open(served.address)
    page.wait_saved()
    wait_for(lambda: np.array_equal(served.mask(Path(name).stem), expected))
    page.check_quiet("ERR_CONNECTION_REFUSED", "Failed to load resource")


def other_window(served, film, mask):
    """Saves a mask as another window would."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(served.address).close()
    base = f"http://127.0.0.1:{served.port}"
    revision = json.load(opener.open(f"{base}/api/films/{film}"))["revision"]
    headers = {"Origin": base, "X-Jaxlung": "1", "If-Match": str(revision)}
    data = mask.astype(np.uint8).tobytes()
    request = urllib.request.Request(
        f"{base}/api/films/{film}/mask?slice=0", data, headers, method="PUT"
    )
    opener.open(request).close()


def test_two_windows_do_not_overwrite_each_other(served, browser):
    page = ReviewPage(browser, served.address)
    page.wait("[...jaxlung.films.values()].every(f => f.ready)")
    name, film = page.name(), page.run("return jaxlung.list.current")
    theirs = np.zeros((HEIGHT, WIDTH), bool)
    theirs[30:60, 20:50] = True
    mine = page.mask() > 0
    page.size(9)
    other_window(served, film, theirs)
    mine |= stroke_mask(mine, page.drag([(60, 60)]), 9)
    page.wait("!document.getElementById('conflict').hidden")
    page.wait("jaxlung.viewer.slice.other")  # the other's mask is shown
    assert np.array_equal(served.mask(Path(name).stem), theirs)
    check_accessible(page)
    page.click("#mine")
    page.wait_saved()
    assert np.array_equal(served.mask(Path(name).stem), mine)

    other_window(served, film, theirs)
    page.drag([(60, 90)])
    page.wait("!document.getElementById('conflict').hidden")
    page.click("#theirs")
    page.wait("document.getElementById('conflict').hidden && jaxlung.viewer.slice")
    wait_for(lambda: np.array_equal(page.mask() > 0, theirs))
    assert np.array_equal(served.mask(Path(name).stem), theirs)

    theirs[70:80, 70:90] = True
    other_window(served, film, theirs)  # nothing unsaved here: it is loaded by itself
    wait_for(lambda: np.array_equal(page.mask() > 0, theirs))
    page.check_quiet("409")


@pytest.mark.parametrize("width, height", [(820, 1180), (390, 780)])
def test_fingers_draw_and_pinch(served, browser, width, height):
    page = ReviewPage(browser, served.address, width, height, touch=True)
    page.wait("[...jaxlung.films.values()].every(f => f.ready)")
    check_accessible(page)
    expected = page.mask() > 0
    page.size(9)
    expected |= stroke_mask(expected, page.drag([(30, 60), (60, 70), (90, 60)]), 9)
    assert np.array_equal(page.mask() > 0, expected)
    before = page.run("return jaxlung.viewer.view.scale")
    (x, y), _ = page.place(65, 75)
    page.fingers("touchStart", [(x - 20, y)])
    page.fingers("touchStart", [(x - 20, y), (x + 20, y)])
    for step in (10, 20, 40):
        page.fingers("touchMove", [(x - 20 - step, y), (x + 20 + step, y)])
    page.fingers("touchEnd", [])
    assert page.run("return jaxlung.viewer.view.scale") == pytest.approx(3 * before, rel=0.02)
    assert np.array_equal(page.mask() > 0, expected)  # two fingers draw nothing
    name = page.name()
    page.wait_saved()
    assert np.array_equal(served.mask(Path(name).stem), expected)
    page.click("#openList")
    page.wait("document.getElementById('side').getBoundingClientRect().left == 0")
    check_accessible(page)
    page.click("#closeList")
    page.click("#reject")
    check_accessible(page)
    page.check_quiet()


def test_a_slice_of_a_scan(at_once, browser, tmp_path):
    """Slices by wheel, key and slider; one that is corrected is on disk, and no other changes."""
    pytest.importorskip("nibabel", reason="pip install -e '.[ct]'")
    from jaxlung.io.ct.labels import read_label_volume
    from tests.helpers.ct_scans import affine_of, body, save

    voxels, _ = body((96, 80, 9))
    for name in ("one", "two"):
        save(tmp_path / "scans" / f"{name}.nii.gz", voxels, affine_of(), "LAS")
    served = Served([tmp_path / "scans"], tmp_path / "review", volumes=True).start()
    try:
        page = ReviewPage(browser, served.address)
        page.wait("jaxlung.viewer.slice")
        assert page.run("return jaxlung.viewer.z") == 4
        page.wheel((40, 40), 120)
        page.wait("jaxlung.viewer.z === 5")
        page.keys(",", ",")
        page.wait("jaxlung.viewer.z === 3")
        assert page.text("#sliceText") == "Slice 4 of 9"
        before = page.mask() > 0
        page.size(9)
        expected = before | stroke_mask(before, page.drag([(48, 20), (50, 60)]), 9)
        page.wait_saved()
        page.keys(".")
        page.wait("jaxlung.viewer.z === 4")
        middle = page.mask() > 0
        [path] = (served.out / "masks").iterdir()
        on_disk = read_label_volume(path).voxels_ZxHxW > 0
        assert np.array_equal(on_disk[3], expected) and not np.array_equal(before, expected)
        assert np.array_equal(on_disk[4], middle) and middle.any()
        page.keys("z")  # goes back to the slice that was drawn on
        page.wait("jaxlung.viewer.z === 3")
        assert np.array_equal(page.mask() > 0, before)
        page.keys("y")
        page.wait_saved()
        assert np.array_equal(read_label_volume(path).voxels_ZxHxW[3] > 0, expected)
        # The next scan is not fetched ahead: in the server's memory is place for one or two.
        page.wait("[...jaxlung.films.values()].every(f => f.ready)")
        [other] = {film.id for film in served.review.setup.films} - {film_id(page, page.name())}
        page.click("#accept")
        page.wait(f"jaxlung.viewer.shown.film.id === '{other}' && jaxlung.viewer.slice")
        page.keys("k")
        page.wait(f"jaxlung.viewer.shown.film.id !== '{other}' && jaxlung.viewer.slice")
        asked = [url for url in page.requested() if f"{other}/pixels" in url]
        page.run("jaxlung.cache.entries.clear()")
        page.run("jaxlung.screen.open(jaxlung.viewer.shown.film)")
        page.wait("jaxlung.viewer.slice")
        page.wait_saved()
        assert asked and not [url for url in page.requested() if other in url]
        page.check_quiet()
    finally:
        served.stop()


@pytest.mark.slow  # five million pixels, through the driver and back
def test_a_large_dicom(at_once, browser, tmp_path):
    """16 bits, 2048 by 2500: all grey levels are there, and the mask is exact."""
    pytest.importorskip("pydicom", reason="pip install -e '.[dicom]'")
    pytest.importorskip("gdcm", reason="pip install -e '.[dicom]'")
    from tests.helpers.dicom_files import dicom, saved

    pixels = film_of(lungs(2500, 2048), 1, most=4095)
    (tmp_path / "films").mkdir()
    saved(tmp_path / "films" / "large.dcm", dicom(pixels, bits=12))
    served = Served([tmp_path / "films"], tmp_path / "review").start()
    try:
        page = ReviewPage(browser, served.address)
        page.wait("jaxlung.viewer.slice")
        assert page.run("return jaxlung.viewer.info.bits") == 16
        row = page.run("return [...jaxlung.viewer.slice.pixels.subarray(2048 * 999, 2048 * 1000)]")
        assert np.corrcoef(row, pixels[999])[0, 1] > 0.999999  # as a display shows it, in 16 bits
        assert len(set(row)) > 256
        expected = page.mask() > 0
        assert np.array_equal(expected, lungs(2500, 2048) > 0)
        page.size(120)
        expected |= stroke_mask(expected, page.drag([(900, 400), (1100, 700), (980, 1900)]), 120)
        page.tool("cut")
        corners = [page.drag([corner])[0] for corner in [(500, 900), (1700, 1100), (700, 1500)]]
        page.keys("\ue007")
        expected &= ~polygon_mask(expected.shape, corners)
        page.wait_saved()
        assert np.array_equal(served.mask("large"), expected)
        assert np.array_equal(page.mask() > 0, expected)
        page.check_quiet()
    finally:
        served.stop()


@contextlib.contextmanager
def command(*arguments):
    """`jaxlung view` as a user starts it; gives its address."""
    words = [sys.executable, "-m", "jaxlung", "view", *map(str, arguments), "--no-browser"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield next(line.strip() for line in server.stdout if line.startswith("http"))
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)


@pytest.mark.slow  # 40 films, on each of three screens
@pytest.mark.parametrize(
    "width, height, touch", [(1280, 800, False), (820, 1180, True), (390, 780, True)]
)
def test_forty_films(workdir, browser, tmp_path, width, height, touch):
    """The whole way with the command and a model: correct, undo, reject, reload, go on, finish."""
    import jax

    from jaxlung.phantom import radiographs

    (tmp_path / "films").mkdir()
    images, _ = radiographs(jax.random.key(5), 40, size=128)
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "films" / f"film_{i:02d}.png")
    out = tmp_path / "review"
    arguments = (tmp_path / "films", "--model", workdir, "--out", out)
    served = types.SimpleNamespace(out=out)

    def on_disk(name):
        return np.asarray(Image.open(out / "masks" / f"{name}.png")) > 0

    with command(*arguments) as address:
        page = ReviewPage(browser, address, width, height, touch)
        page.wait("[...jaxlung.films.values()].every(f => f.ready)", 300)
        page.wait("jaxlung.viewer.slice")
        check_accessible(page)
        first = page.name()
        expected = page.mask() > 0
        page.size(9)
        expected |= stroke_mask(expected, page.drag([(20, 30), (60, 50), (90, 40)]), 9)
        page.tool("add")
        corners = [page.drag([corner])[0] for corner in [(30, 80), (100, 85), (60, 110)]]
        page.drag([corners[0]])  # on the first corner again: it is closed
        expected |= polygon_mask(expected.shape, corners)
        page.tool("brush")
        page.drag([(5, 5), (100, 120)])
        page.tool("undo")
        assert np.array_equal(page.mask() > 0, expected)
        page.click("#accept")
        second = page.wait(f"{NAME} !== '{first}' && {NAME}")
        page.click("#reject")
        page.run("document.querySelector('#reasons input').click()")
        page.click("#why .main")
        page.wait(f"{NAME} !== '{second}'")
        page.wait_saved()
        assert np.array_equal(on_disk(first), expected)
        page.run("location.reload()")
        page.wait(f"jaxlung.viewer.slice && !['{first}', '{second}'].includes({NAME})")
        assert page.text("#count") == "2 of 40 looked at"
        for looked in range(3, 20):
            page.click("#accept")
            page.wait(f"document.getElementById('count').textContent.startsWith('{looked} of')")
            page.wait("jaxlung.viewer.slice")
        page.wait_saved()
        asked = page.requested()
        own = address.split("?")[0]
        assert len(asked) > 60 and all(url.startswith((own, "about:")) for url in asked)
        page.check_quiet()
    with command(*arguments) as address:  # the same command goes on
        page.open(address)
        page.wait("jaxlung.viewer.slice")
        assert page.text("#count") == "19 of 40 looked at"
        for looked in range(20, 41):
            page.click("#accept")
            page.wait(f"document.getElementById('count').textContent.startsWith('{looked} of')")
            page.wait("jaxlung.viewer.slice")
        page.run("document.getElementById('finish').click()")
        page.wait("!document.getElementById('doneMore').hidden", 300)
        assert "--config.train.init_from=" in page.text("#command")
        check_accessible(page)
    states = [row["state"] for row in rows(served).values()]
    assert (states.count("accepted"), states.count("corrected")) == (38, 1)
    assert rows(served)[second]["state"] == "rejected"
    assert np.array_equal(on_disk(first), expected)
    assert len(list((out / "masks").iterdir())) == 39 and not (out / f"masks/{second}.png").exists()


def test_a_review_keeps_its_port(tmp_path):
    """Otherwise what a browser has kept could not be sent; where it is taken, another one does."""
    from jaxlung.view.serve import choose_port, open_socket

    with open_socket("127.0.0.1", 0, tmp_path / "review") as listener:
        usual = listener.getsockname()[1]
        listener.listen()
        with open_socket("127.0.0.1", 0, tmp_path / "review") as second:
            assert second.getsockname()[1] != usual
    assert usual == choose_port(tmp_path / "review") != choose_port(tmp_path / "other")
    with open_socket("127.0.0.1", 0, tmp_path / "review") as listener:
        assert listener.getsockname()[1] == usual


def test_the_page_is_small():
    """The modules without comments and layout, as a minifier that keeps names leaves them."""
    code = 0
    files = {file.name: file for file in (*PAGE.iterdir(), *SCREEN.glob("*.[cj]s*"))}
    for name, file in files.items():
        if not name.endswith(".js"):
            continue
        text = re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*", "", file.read_text(), flags=re.S)
        text = re.sub(r"\s+", " ", text)
        code += len(re.sub(r" ?([{}()\[\];,:=+*/<>&|?!-]) ?", r"\1", text))
    assert 30_000 < code < 60_000
    assert len(gzip.compress(b"".join(file.read_bytes() for file in files.values()))) < 36_000
    for name in ("draw.js", "tools.js", "history.js", "viewer.js", "pointers.js", "cursor.js"):
        text = files[name].read_text()
        assert "fetch(" not in text and "server.js" not in text
    whole = "".join(file.read_text() for file in files.values())
    addresses = set(re.findall(r"https?://[\w./]+", whole))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert " style=" not in whole and "onclick" not in whole


def hold_back(page, *words):
    """Keeps the answers whose address has one of the words until `let_go`."""
    page.run(
        "const words = [...arguments], ask = window.fetch;"
        "const gate = new Promise((go) => (window.letGo = go));"
        "window.fetch = async (path, options) => {"
        "  if (words.some((word) => path.includes(word))) await gate;"
        "  return ask(path, options); };",
        *words,
    )


def film_id(page, name):
    return page.run(
        "return [...jaxlung.films.values()].find((film) => film.name === arguments[0]).id", name
    )


def test_a_film_that_is_slow_to_come_is_not_drawn_on_nor_accepted(served, browser):
    """What is drawn and judged meanwhile is of nothing; the film before stays as it was."""
    page = ReviewPage(browser, served.address)
    page.wait("[...jaxlung.films.values()].every(f => f.ready)")
    first, second = page.name(), "film_03"
    page.run("jaxlung.cache.entries.clear()")
    slow = film_id(page, second)
    hold_back(page, f"{slow}/pixels")
    points = [(20, 20), (60, 25)]
    places = [page.place(*point)[0] for point in points]
    page.run("jaxlung.screen.open(jaxlung.films.get(arguments[0]))", slow)
    page.wait(f"{NAME} === '{second}'")
    assert page.run("return [jaxlung.viewer.shown.film.name, jaxlung.viewer.slice]") == [
        second,
        None,
    ]
    for i, (x, y) in enumerate(places):
        page._mouse("mouseMoved" if i else "mousePressed", x, y, button="left", clickCount=1)
    page._mouse("mouseReleased", *places[-1], button="left", clickCount=1)
    page.keys("a", "a", "m")
    assert page.run("return document.getElementById('accept').disabled")
    assert not page.run("return jaxlung.queue.has()")
    page.run("letGo()")
    page.wait("jaxlung.viewer.slice")
    page.size(9)
    expected = page.mask() > 0
    expected |= stroke_mask(expected, page.drag(points), 9)
    page.wait_saved()
    assert np.array_equal(served.mask(second), expected)
    states = {name: row["state"] for name, row in rows(served).items()}
    assert states[second] == "corrected" and states[first] == "open"
    page.check_quiet()


def test_a_film_that_joins_takes_no_stroke_of_another(at_once, browser, tmp_path):
    """The server stops, films of the first and of a second folder join, and the page stays open."""
    folder, late = films(tmp_path / "films", 2), tmp_path / "late"
    late.mkdir()
    served = Served([folder, late], tmp_path / "review")
    Image.fromarray(film_of(lungs(HEIGHT, WIDTH), 8)).save(late / "other.png")
    served.start()
    try:
        page = ReviewPage(browser, served.address)
        name, expected = draw_while_away(page, served)
        for place in (folder / "a.png", late / f"{name}.png"):  # one that sorts first, a namesake
            Image.fromarray(film_of(lungs(HEIGHT, WIDTH), 9)).save(place)
        served.start()
        page.wait_saved()
        assert np.array_equal(served.mask(name), expected)
        page.wait("jaxlung.films.size == 5")
        states = {row["id"]: row["state"] for row in rows(served).values()}
        assert states.pop(name) == "corrected" and set(states.values()) == {"open"}
        names = page.run("return [...jaxlung.films.values()].map((film) => film.name)")
        assert {f"films/{name}.png", f"late/{name}.png"} < set(names)  # the list tells them apart

        # What the browser kept of a page that was closed goes to its own film too.
        served.stop()
        points = page.drag([(20, 120), (110, 125)])
        expected |= stroke_mask(expected, points, 9)
        page.wait("document.getElementById('saving').dataset.state == 'away'")
        browser.get("about:blank")
        served.start()
        page.open(served.address)
        page.wait_saved()
        wait_for(lambda: np.array_equal(served.mask(name), expected))
        states = {row["id"]: row["state"] for row in rows(served).values()}
        assert states.pop(name) == "corrected" and set(states.values()) == {"open"}
        page.check_quiet("ERR_CONNECTION_REFUSED", "Failed to load resource")
    finally:
        served.stop()


QUEUE = """
  const calls = [], kept = new Map(), films = [];
  const server = {
    row: {revision: 5, state: 'open', verdict: '', reason: ''}, fail: [],
    answer(name, change) {
      calls.push(name);
      const fail = server.fail.shift();
      if (fail !== 'refuse') { server.row.revision += 1; Object.assign(server.row, change); }
      if (fail) throw Object.assign(new Error('words'), {status: fail === 'lost' ? 0 : 422});
      return {...server.row};
    },
    check(seen) {
      const {revision} = server.row;
      if (seen === revision) return;
      throw Object.assign(new Error('409'), {status: 409, body: {revision}});
    },
    async putMask(id, z, mask, seen) {
      server.check(seen);
      return server.answer('mask', {state: 'corrected', verdict: ''});
    },
    async verdict(id, word, reason, seen) {
      server.check(seen);
      const states = {accept: 'accepted', reject: 'rejected'};
      reason = reason.replace(/\\s+/g, ' ');
      return server.answer(word, {state: states[word], verdict: word, reason});
    },
    film: async () => server.row,
    layer: async () => ({buffer: new Uint8Array([9, 9]).buffer}),
  };
  const store = {
    keep: async (film, what, job) => kept.set(what, job),
    drop: async (film, what) => kept.delete(what),
  };
  const on = {change() {}, saved(film, state) { film.state = state; },
    conflict(film) { film.conflict = queue.conflictOf(film.id); }};
  const queue = new m.SaveQueue(server, store, on);
  const film = {id: 'x', revision: 5, state: 'open'};
  const end = async (until) => {
    for (let i = 0; i < 400 && !until(); i++) await new Promise((go) => setTimeout(go, 20));
    return {calls, state: server.row.state, film, kept: [...kept.keys()], has: queue.has(),
      shown: queue.state};
  };
"""


def queued(page, body):
    """Runs the queue of saves against a server of the test's own."""
    return in_page(page, "saves.js", f"return (async () => {{ {QUEUE} {body} }})()")


def test_a_stroke_after_a_verdict_takes_the_verdict_back(shown):
    """The server would else put a film aside that was drawn on after it was rejected."""
    found = queued(
        shown,
        "queue.verdict(film, 'reject', 'blurred'); queue.mask(film, 0, new Uint8Array([1, 0]));"
        "return end(() => !queue.has())",
    )
    assert found["calls"] == ["mask"] and found["state"] == "corrected" and found["kept"] == []


@pytest.mark.parametrize("others", [False, True])
def test_a_verdict_whose_answer_was_lost_is_no_conflict(shown, others):
    """But one after another window's change is: nobody has seen that mask here."""
    before = "server.row.revision += 1;" if others else ""
    found = queued(
        shown,
        f"server.fail = ['lost']; queue.verdict(film, 'reject', 'two  blanks');"
        f"await end(() => calls.length); {before}"
        "return end(() => !queue.has() || film.conflict)",
    )
    assert found["calls"] == ["reject"]
    if others:
        assert found["film"]["conflict"] == {"revision": 7} and found["has"]
    else:
        assert found["film"]["seen"] == 6 and not found["has"] and found["kept"] == []


def test_what_the_server_refuses_is_not_sent_for_ever(shown):
    """The page says why and keeps it; the reader has it sent again, or gives it up."""
    found = queued(
        shown,
        "server.fail = ['refuse', 'refuse']; queue.mask(film, 0, new Uint8Array([1, 0]));"
        "await end(() => film.conflict); await new Promise((go) => setTimeout(go, 900));"
        "return end(() => true)",
    )
    assert found["calls"] == ["mask"] and found["kept"] == [0]
    assert found["film"]["conflict"] == {"refused": "words"} and found["shown"] == "conflict"
    found = queued(
        shown,
        "server.fail = ['refuse']; queue.mask(film, 0, new Uint8Array([1, 0]));"
        "await end(() => film.conflict); queue.resolve(film, true); return end(() => !queue.has())",
    )
    assert found["calls"] == ["mask", "mask"] and found["state"] == "corrected"


def test_a_slice_that_another_window_changed_is_fetched_anew(shown):
    """Also where this window has a later revision from another slice, or from its own save."""
    body = """
      const asked = [];
      let revision = 5;
      const server = {film: async () => ({bits: 8, width: 2, first_slice: 1}),
        layer: async (id, what, z) => {
          if (what === 'mask') asked.push(z);
          return {buffer: new ArrayBuffer(2), revision};
        }};
      const film = {id: 'x', revision: 5, seen: 5};
      const cache = new m.Cache(server, {pending: () => null, unsaved: () => false,
        shown: () => ({}), arrived() {}});
      const {entry} = await cache.look(film);
      entry.history.done.push({slice: 1}, {slice: 2});
      revision = 6;  // another window saves slice 1
      film.seen = film.revision = (await cache.look(film, 9)).slice.revision;
      film.seen = film.revision = 7;  // this one saves slice 9
      cache.saved(film, 6, [9]);
      revision = 7;
      const old = entry.slices.get(1).revision;
      await cache.look(film, 9);
      await cache.look(film, 1);
      return [asked, old, entry.slices.get(1).revision, entry.history.done]"""
    found = in_page(shown, "cache.js", f"return (async () => {{ {body} }})()")
    assert found == [[1, 9, 1], 5, 7, [{"slice": 2}]]


@pytest.mark.parametrize("readable", [True, False])
def test_films_that_are_predicted_later_are_fetched_ahead(
    at_once, browser, tmp_path, monkeypatch, readable
):
    """The first film is shown, or cannot be read, while the model is at work on the others."""
    from jaxlung.view import first

    go, predict = threading.Event(), first.predict_first

    def predict_later(models, film, key):
        if film.stem != "film_00":
            assert go.wait(60)
        return predict(models, film, key)

    monkeypatch.setattr(first, "predict_first", predict_later)
    folder = films(tmp_path / "films", 6)
    if not readable:
        (folder / "film_00.png").write_bytes(b"no picture")
    served = Served([folder], tmp_path / "review").start()
    try:
        page = ReviewPage(browser, served.address)
        page.wait("jaxlung.viewer.slice || jaxlung.viewer.shown.film.error")
        assert page.run("return jaxlung.cache.entries.size") == readable
        go.set()
        fetched = "[...jaxlung.cache.entries.values()].filter((entry) => entry.slices.size).length"
        page.wait(f"{fetched} === {3 + readable}")
        page.check_quiet()
    finally:
        go.set()
        served.stop()


def test_the_benchmark_finds_what_it_measures(at_once, browser, tmp_path):
    """Its names of the page's parts, and the page's own measures, are still there."""
    from benchmarks.speed import review_page

    folder = films(tmp_path / "films", 3)
    Image.fromarray(film_of(lungs(2500, 2048), 0)).save(folder / "large.png")
    served = Served([folder], tmp_path / "review").start()
    said = io.StringIO()
    try:
        page = ReviewPage(browser, served.address)
        page.wait(review_page.PREDICTED)
        with contextlib.redirect_stdout(said):
            review_page.show_next(browser, 2)
            review_page.draw(browser, 0)  # its least
        page.wait_saved()
    finally:
        served.stop()
    for words in ("next film", "2048x2500, fitted", "at its own size", "from the pen"):
        assert words in said.getvalue()
