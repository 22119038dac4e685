"""The page finds in a film what Python finds, sends nothing, and survives bad files."""

import http.server
import io
import re
import struct
import threading
import zlib
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

import jaxlung
from jaxlung import phantom
from jaxlung.errors import InputError
from jaxlung.export.exported import prepare_export
from jaxlung.export.html.write import write_html, write_site
from tests.helpers.film_page import compare, give_films, save, save_all, start_page, wait

pytest.importorskip("pydicom")
pytest.importorskip("gdcm")
from tests.helpers.films import KINDS, write_films  # noqa: E402


@pytest.fixture(scope="module")
def seen(browser, page, sample, tmp_path_factory):
    """What the page saved of the sample, and whether it asked for anything."""
    start_page(browser, page)
    give_films(browser, sample)
    script = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    asked = [name for name in browser.execute_script(script) if not name.startswith("blob:")]
    return save_all(browser, tmp_path_factory.mktemp("seen")), asked


def test_page_against_python(seen, exported, sample):
    assert len(sample) == 9
    dice = compare(exported.model, sample, seen[0])
    assert np.mean(dice) >= 0.9999


def test_no_request_is_made_and_none_could_be(seen, page, browser):
    assert seen[1] == []
    [policy] = re.findall('Security-Policy" content="([^"]*)"', page.read_text())
    assert "default-src &#39;none&#39;" in policy and "connect-src" not in policy
    script = "return fetch('https://example.org/').then(() => 'sent', () => 'refused')"
    assert browser.execute_script(script) == "refused"


def test_page_is_small_and_says_its_terms(page):
    assert page.stat().st_size < 2e6  # this one's weights are few
    [footer] = re.findall("<footer>.*?</footer>", page.read_text(), re.DOTALL)
    assert "not a medical device" in footer
    assert "CC-BY-NC-4.0: no commercial use" in footer


def png(height, width, data=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = b"\x89PNG\r\n\x1a\n"
    for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")):
        parts += struct.pack(">I", len(body)) + name + body
        parts += struct.pack(">I", zlib.crc32(name + body))
    return parts


@pytest.fixture(scope="module")
def bad_files(sample, tmp_path_factory):
    """Files that no one can predict, and a part of the line that says why."""
    folder = tmp_path_factory.mktemp("bad")
    good = {path.name: path.read_bytes() for path in sample}
    whole, jpeg, dicom = (good[n] for n in ("grey_233x200.png", "jpeg_rgb.jpg", "voi_lut.dcm"))
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 255
    Image.new("L", (9, 9)).save(folder / "t.tif")
    files = {
        "empty.png": (b"", "is empty"),
        "cut.png": (whole[: len(whole) // 2], "damaged or truncated"),
        "broken.png": (bytes(broken), "damaged or truncated"),
        "huge.png": (png(40_000, 40_000), "more pixels than an image of a chest"),
        "short.png": (png(100, 100, b"\0" * 50), "damaged or truncated"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "damaged or truncated"),
        "cut.dcm": (dicom[: len(dicom) // 2], "damaged or"),
        "ct.dcm": (dicom.replace(b"CS\x02\0DX", b"CS\x02\0CT"), "has modality CT"),
        "words.txt": (b"no film, but words", "is no image"),
        "scan.tif": ((folder / "t.tif").read_bytes(), "is a TIFF file"),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    return folder, {name: words for name, (_, words) in files.items()}


def test_a_bad_file_has_a_line_and_the_others_go_on(browser, page, bad_files, sample, tmp_path):
    folder, expected = bad_files
    start_page(browser, page)
    give_films(browser, [*(folder / name for name in expected), sample[0]])
    rows = save_all(browser, tmp_path).rows
    for name, words in expected.items():
        assert rows[name]["status"] == "failed", name
        assert words in rows[name]["error"], (name, rows[name]["error"])
        assert len(rows[name]["error"].splitlines()) == 1
    assert rows[sample[0].name]["status"] == "ok"
    assert "10 failed" in browser.find_element("id", "count").text


@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_and_fits(browser, page, sample, width):
    axe = pytest.importorskip("axe_core_python", reason="pip install -e '.[test]'")
    script = Path(axe.__file__).parent / "axe.min.js"
    start_page(browser, page, width)
    give_films(browser, sample[:2])
    browser.execute_script(script.read_text())
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    bad = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
    assert [(each["id"], each["nodes"][0]["html"]) for each in bad] == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_by_keyboard_alone(browser, page, sample, tmp_path):
    from selenium.webdriver import ActionChains, Keys

    start_page(browser, page)
    give_films(browser, sample[:2])
    keys = ActionChains(browser)
    browser.execute_script("document.querySelector('#list button').focus()")
    keys.send_keys(Keys.ARROW_DOWN, Keys.ENTER, "o", "p").perform()
    name = sample[1].name
    wait(browser, f"return document.getElementById('viewer').ariaLabel.startsWith('{name}: Exp')")
    assert browser.find_element("id", "outline").get_attribute("aria-pressed") == "false"
    assert browser.find_element("id", "heat").get_attribute("aria-pressed") == "true"
    wait(browser, "return !document.getElementById('saveOverlay').disabled")
    data = save(browser, "saveOverlay", f"{sample[1].stem}_overlay.png", tmp_path)
    overlay = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    film = np.asarray(Image.open(sample[1]))
    assert overlay.shape == (*film.shape, 3)
    assert (overlay[..., 0] != overlay[..., 2]).any()  # what is drawn has colours


def test_site_works_from_a_server(browser, exported, sample, tmp_path):
    folder = tmp_path / "site"
    write_site(exported, folder)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    def handle(*arguments):
        return Quiet(*arguments, directory=str(folder))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handle) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            browser.get(f"http://127.0.0.1:{server.server_port}/")
            wait(browser, "return document.body.dataset.ready")
            give_films(browser, [path for path in sample if path.name == "monochrome1_ls.dcm"])
            assert "0 failed" not in browser.find_element("id", "count").text
            assert browser.find_elements("css selector", "#list .bad") == []
        finally:
            browser.get("about:blank")
            server.shutdown()


def test_models_of_ct_are_refused(tmp_path):
    model = jaxlung.load("ct", tta=False)
    with pytest.raises(InputError, match="is a model of CT, and a page is for X-rays"):
        write_html(prepare_export(model, licence="", float16=True), tmp_path / "a.html")


@pytest.mark.slow
def test_all_kinds_of_films(browser, tmp_path_factory):
    """The bars of the page: 60 films and more, each mask as Python's, with the default model."""
    folder = tmp_path_factory.mktemp("corpus")
    exported = prepare_export(jaxlung.load(tta=False), licence="CC-BY-4.0", float16=True)
    write_html(exported, folder / "lungs.html")
    assert (folder / "lungs.html").stat().st_size <= 6e6
    films, _ = phantom.radiographs(jax.random.key(3), 6, size=512)
    (folder / "films").mkdir()
    paths = write_films(folder / "films", np.asarray(films))
    assert len(paths) == len(KINDS) >= 60
    start_page(browser, folder / "lungs.html")
    give_films(browser, paths, seconds=1200)
    dice = compare(exported.model, paths, save_all(browser, folder))
    assert np.mean(dice) >= 0.9999


def measure_renderers():
    """The resident memory of all renderers of Chromium, bytes."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"--type=renderer" in (process / "cmdline").read_bytes():
                total += 4096 * int((process / "statm").read_text().split()[1])
        except OSError:  # it has ended
            continue
    return total


@pytest.mark.slow
def test_a_hundred_films_keep_memory_flat(browser, page, phantoms, tmp_path):
    film = cv2.resize(phantoms[0], (2000, 2000))
    paths = [tmp_path / f"{i}.png" for i in range(20)]
    for path in paths:
        Image.fromarray(film).save(path)
    start_page(browser, page)
    give_films(browser, paths, seconds=600)
    before = measure_renderers()
    for _ in range(4):
        give_films(browser, paths, seconds=600)
    assert "100 of 100" in browser.find_element("id", "count").text
    # A film takes some 100 MB on its way; what is kept of each is a mask, some 30 KB.
    assert measure_renderers() - before < 100e6
