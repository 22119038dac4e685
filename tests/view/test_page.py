"""The review page in Chromium: what is drawn is on disk to the pixel, and nothing is lost."""

import csv
import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxlung
from tests.helpers import review_page
from tests.helpers.review_page import (
    ReviewPage,
    Served,
    film_of,
    lungs,
    polygon_mask,
    stroke_mask,
    wait_for,
)

for needed in ("starlette", "uvicorn"):
    pytest.importorskip(needed, reason='pip install -e ".[view]"')

PAGE = Path(jaxlung.__file__).parent / "view" / "page"
HEIGHT, WIDTH = 150, 130


@pytest.fixture
def at_once(monkeypatch):
    """No network: the first masks are `lungs`."""
    monkeypatch.setattr("jaxlung.view.first.predict_first", review_page.predict_at_once)


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
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")


def test_a_film_is_corrected_and_another_rejected(served, browser):
    """The short journey; the long one goes over 40 films and three screens."""
    page = ReviewPage(browser, served.address)
    page.wait("jaxlung.films.size == 5 && [...jaxlung.films.values()].every(f => f.ready)")
    assert page.text("#count") == "0 of 5 looked at"
    first = page.name()
    assert first == "film_04.png" or first.startswith("film_")
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
    second = page.wait(f"document.getElementById('name').textContent != '{first}' && "
                       "document.getElementById('name').textContent")
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
    page.run(f"[...document.querySelectorAll('[role=option]')]"
             f".find(e => e.textContent.includes('{first}')).click()")
    page.wait(f"document.getElementById('name').textContent == '{first}' && jaxlung.viewer.slice")
    assert np.array_equal(page.mask() > 0, expected)

    page.click("#finish")
    page.wait("!document.getElementById('doneMore').hidden")
    assert "jaxlung train" in page.text("#command")
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
        patch.setattr("jaxlung.view.first.predict_first", review_page.predict_at_once)
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
      for (let s = h.undo(); s; s = h.undo()) { m.paste(k, 100, s.rect, s.part); seen.push(k.join('')); }
      for (let s = h.redo(); s; s = h.redo()) m.paste(k, 100, s.rect, s.part);
      return [nothing, seen.length, k.slice(0, 6).join('')]"""
    assert in_page(shown, "history.js", body) == [False, 2, "111110"]


def test_thousands_of_films_are_a_few_rows(shown):
    """Five thousand films: the rows in sight alone are on the page, in order of attention."""
    body = """
      const root = document.createElement('div');
      root.style.height = '400px'; root.style.overflow = 'auto';
      document.body.append(root);
      const films = m.order(Array.from({length: 5000}, (_, id) => ({id, name: `f${id}`, ready: true,
        warnings: [], error: null, given_dice: null, confidence: 0.9, state: 'open', reason: '',
        attention: id % 100})));
      let opened = 0;
      const list = new m.List(root, {open: (id) => { opened = id; list.select(id); },
        thumbnail: () => 'data:,', unsaved: () => false});
      list.set(films, films[0].id);
      for (const key of ['End', 'ArrowUp']) root.dispatchEvent(new KeyboardEvent('keydown', {key}));
      const rows = [...root.querySelectorAll('[role=option]')];
      const last = rows.map((r) => Number(r.getAttribute('aria-posinset')));
      root.remove();
      return [films[0].id, rows.length, Math.max(...last), opened]"""
    first, count, last, opened = in_page(shown, "list.js", body)
    assert (first, last, opened) == (99, 5000, 4800) and count < 20


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
        out.push([...row].filter((a) => a > 200).length - (width * scale > 60 ? 0 : 2));
      }
      return out"""
    assert in_page(shown, "draw.js", body) == [2, 2, 2]


def test_films_are_dropped_above_the_bound_of_memory(shown):
    body = """
      const server = {film: async () => ({bits: 8, width: 100, first_slice: 0}),
        layer: async () => ({buffer: new ArrayBuffer(10000), revision: 0})};
      const cache = new m.Cache(server, () => null, 100000);
      await cache.prefetch(Array.from({length: 9}, (_, id) => ({id})));
      return [...cache.entries.keys()]"""
    assert in_page(shown, "cache.js", "return (async () => {" + body + "})()") == [6, 7, 8]


def test_the_keyboard_alone_draws(served, browser):
    page = ReviewPage(browser, served.address)
    page.wait("[...jaxlung.films.values()].every(f => f.ready)")
    page.run("document.getElementById('viewer').focus()")
    expected = page.mask() > 0
    page.keys("b")
    page.size(7)
    page.keys("\ue008", "\ue014", "\ue008")  # Shift and an arrow: the cursor comes, by a pixel
    x, y = page.run("const c = jaxlung.viewer.cursor; return [c.x, c.y]")
    assert (x, y) == (WIDTH / 2 + 1.5, HEIGHT / 2 + 0.5)
    page.keys(" ")
    expected |= stroke_mask(expected, [(x, y)], 7)
    page.keys("\ue007", "\ue015", "\ue007")  # pen down, an arrow, pen up
    step = page.run("return jaxlung.viewer.cursor.y") - y
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


def test_what_is_drawn_while_the_server_is_away_is_sent_later(served, browser):
    """First the open page sends it; then a page that was closed meanwhile, from the browser's store."""
    page = ReviewPage(browser, served.address)
    page.wait("[...jaxlung.films.values()].every(f => f.ready)")
    name = page.name()
    expected = page.mask() > 0
    page.size(9)
    served.stop()
    points = page.drag([(20, 20), (60, 25)])
    expected |= stroke_mask(expected, points, 9)
    page.wait("document.getElementById('saving').dataset.state == 'away'")
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
    with urllib.request.urlopen(served.address) as answer:
        del answer
    jar = urllib.request.HTTPCookieProcessor()
    opener = urllib.request.build_opener(jar)
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


def test_window_zoom_and_layers(shown):
    page = shown
    page.wait("[...jaxlung.films.values()].every(f => f.ready)")
    middle = "return [...jaxlung.viewer.base.getContext('2d').getImageData(...arguments[0], 1, 1).data]"
    overlay = middle.replace("base", "overlay")
    x, y = page.run("const v = jaxlung.viewer; return [v.base.width >> 1, v.base.height >> 1]")
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
    assert blue > red and 0 < alpha < 255  # filled, in the right lung's colour
    page.keys("o")
    assert page.run(overlay, at)[3] == 0  # hidden
    page.keys("t")
    assert page.run(overlay, at)[3] > 0  # probability
    page.keys("t", "o")
    scale = page.run("return jaxlung.viewer.view.scale")
    page.wheel((65, 75), -240)
    page.wait(f"jaxlung.viewer.view.scale > {scale * 1.2}")
    page.keys("0")


def test_the_page_is_small():
    """The modules without their comments; all of it as it would be compressed."""
    import gzip
    import re

    code = sum(
        len(re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*|^\s+", "", file.read_text(), flags=re.S | re.M))
        for file in PAGE.glob("*.js")
    )
    assert 30_000 < code < 60 * 1024
    assert sum(len(gzip.compress(file.read_bytes())) for file in PAGE.iterdir()) < 40_000
    for name in ("draw.js", "tools.js", "history.js", "viewer.js"):
        text = (PAGE / name).read_text()
        assert "fetch(" not in text and "server.js" not in text
    whole = "".join(file.read_text() for file in PAGE.iterdir())
    addresses = set(re.findall(r"https?://[\w./]+", whole))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert " style=" not in whole and "onclick" not in whole
