"""The page: self-contained, escaped, linked; and in a real browser, wide and narrow."""

import html.parser
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxlung.mask_scores import score
from jaxlung.report import choose_cases

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")
NAMES = [f"case_{i:02d}" for i in range(30)] + ["<b>&", "a_very_long_name_without_any_break_" * 4]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """32 images whose outlines are ever further off; one without prediction."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("masks")
    for name in ("truth", "pred", "images"):
        (root / name).mkdir()
    for i, name in enumerate(NAMES):
        truth = np.zeros((90, 100), bool)
        truth[20:70, 12:42], truth[20:70, 58:88] = True, True
        prediction = np.roll(truth, i % 16, axis=0)
        prediction[:4, :4] = i % 7 == 0
        film = rng.integers(0, 255, truth.shape, np.uint8)
        arrays = {"truth": truth * np.uint8(255), "images": film}
        if i != 5:
            arrays["pred"] = prediction * np.uint8(255)
        for folder, pixels in arrays.items():
            Image.fromarray(pixels).save(root / folder / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def page(folders):
    score(folders / "pred", folders / "truth", folders / "out", images=folders / "images")
    return folders / "out" / "report.html"


class Page(html.parser.HTMLParser):
    """Ids, links and addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.addresses = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            elif name in ("href", "xlink:href"):
                self.links.append(value)
            elif name in ("src", "srcset", "data", "action"):
                self.addresses.append(value)


def test_page_needs_nothing_from_outside(page):
    text = page.read_text()
    found = Page(text)
    assert len(found.addresses) > 20
    assert all(address.startswith("data:image/jpeg;base64,") for address in found.addresses)
    assert all(link.startswith(("#", "data:,")) for link in found.links)
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", text)


def test_every_link_leads_somewhere_and_no_id_is_there_twice(page):
    found = Page(page.read_text())
    assert len(set(found.ids)) == len(found.ids)
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    rows = [i for i in found.ids if i.startswith("row-")]
    assert len(rows) == len(NAMES)  # every image, the one without prediction too
    assert sum(link.startswith("#case-") for link in found.links) >= 2 * 12  # row and scatter


def test_names_are_escaped(page):
    text = page.read_text()
    assert "<b>&" not in text and "&lt;b&gt;&amp;" in text


def test_cases_are_drawn_once_and_worst_first():
    rng = np.random.default_rng(1)
    for count in (1, 2, 3, 7, 40):
        dice = rng.random(count)
        hd95 = 30 - 10 * dice + rng.random(count)  # far outlines and little overlap go together
        groups = dict(choose_cases(dice, hd95))
        drawn = [i for indices in groups.values() for i in indices]
        assert len(set(drawn)) == len(drawn) <= 24
        assert groups["Worst by Dice"][0] == np.argmin(dice)
        if count == 40:
            assert [len(indices) for indices in groups.values()] == [12, 4, 4, 4]
            assert groups["Best by Dice"][0] == np.argmax(dice)
            assert np.argmax(hd95) in drawn


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (CHROMIUM and CHROMEDRIVER):
        pytest.skip("chromium and chromedriver are not installed (Debian: chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install -e '.[test]'")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(CHROMEDRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(page, browser, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get(page.as_uri())
    run = browser.execute_script
    assert run("return innerWidth") == width
    assert run("return document.documentElement.scrollWidth") <= width  # no sideways scroll
    assert run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert run("return document.images.length") == 24

    # The first row is the worst case: one click leads to its picture.
    link = browser.find_element("css selector", ".images tbody tr td a")
    name = link.text
    run("arguments[0].scrollIntoView({block: 'center'})", link)
    link.click()
    figure = browser.find_element("css selector", "figure:target")
    assert name in figure.text
    assert run("const r = arguments[0].getBoundingClientRect(); return r.top < innerHeight", figure)
    figure.find_element("css selector", "figcaption a").click()  # and one click back
    assert name in browser.find_element("css selector", "tr:target").text

    # A column's heading sorts by it, both ways.
    heading = browser.find_elements("css selector", ".sortable button.sort")[1]
    cells = "[...document.querySelectorAll('.sortable td:nth-child(2)')]"
    run("arguments[0].scrollIntoView({block: 'center'})", heading)
    for order in (False, True):
        heading.click()
        column = run(f"return {cells}.map(cell => Number(cell.innerText))")
        assert column == sorted(column, reverse=order) and len(column) == len(NAMES)
    assert browser.get_log("browser") == []  # no error in a script, nothing that did not load
