"""The site, built strictly with its notebooks executed, as a browser opens it from a disk."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.helpers.pages import Page, open_page

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # executes four notebooks, and opens every page twice


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("myst_nb", reason='needs pip install -e ".[docs]"')
    out = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        "docs",
        out,
    ]
    env = {**os.environ, "JAXLUNG_NOTEBOOKS": "run"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site):
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html")}
    assert len(pages) > 40
    return pages


def test_links_images_and_anchors_are_there(pages):
    for path, page in pages.items():
        for address in page.links + page.addresses:
            parts = urlsplit(address)
            if parts.scheme in ("http", "https", "mailto", "data"):
                assert address in page.links or parts.scheme == "data", f"{path}: {address}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name}: {address}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{path.name}: {address}"


def test_notebooks_show_their_outputs(site):
    for name in ("predict", "train", "compare", "compose"):
        assert 'class="output' in (site / "notebooks" / f"{name}.html").read_text()
    assert list(site.glob("_images/*.png"))


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_open_from_a_disk(pages, browser, width):
    for kind in ("browser", "performance"):  # what earlier pages have left
        browser.get_log(kind)
    for path in pages:
        open_page(browser, path, width)
        broken = browser.execute_script(
            "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        )
        assert broken == [], path
        shown = browser.execute_script("return document.scrollingElement.scrollWidth")
        assert shown <= width, f"{path} is {shown} pixels wide"
        assert [entry["message"] for entry in browser.get_log("browser")] == [], path
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one for one in asked if one["method"] == "Network.requestWillBeSent"]
    schemes = {urlsplit(one["params"]["request"]["url"]).scheme for one in sent}
    assert "file" in schemes and schemes <= {"file", "data", "chrome"}  # chrome: its own first tab


def test_search_works_from_a_disk(site, browser):
    browser.get((site / "search.html").as_uri() + "?q=confidence")
    from selenium.webdriver.support.ui import WebDriverWait

    links = "return [...document.querySelectorAll('#search-results li a')].map(a => a.href)"
    found: list[str] = []

    def shows_gate(browser):  # results come one after another
        found[:] = browser.execute_script(links)
        return any("gate.html" in link for link in found)

    WebDriverWait(browser, 20).until(shows_gate, f"of {found}")
    assert [entry["message"] for entry in browser.get_log("browser")] == []
