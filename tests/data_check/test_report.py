"""check.html: self-contained, escaped, complete, and in a real browser, wide and narrow."""

import re

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image

from jaxlung.data_check import report
from jaxlung.data_check.check import check
from jaxlung.data_check.kinds import KINDS
from jaxlung.data_check.report import COPIES, NAMED, WORST, format_summary, render
from tests.helpers.pages import Page, open_page

NAMES = ["<b>&", "a_very_long_name_without_any_break_" * 4, *(f"p{i:02d}" for i in range(30))]


@pytest.fixture(scope="module")
def result(tmp_path_factory, phantoms):
    """32 pairs, of which half have holes in their masks, one is inverted, one a copy."""
    root = tmp_path_factory.mktemp("set")
    images, masks = phantoms
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for n, name in enumerate(NAMES):
        mask = masks[n] * np.uint8(255)
        if n % 2:
            mask[
                np.roll(mask > 0, 9, 0)
                & np.roll(mask > 0, -9, 0)
                & (np.indices(mask.shape)[0] % 9 < 2)
            ] = 0
        if n == 0:
            mask = 255 - mask
        Image.fromarray(images[n]).save(root / "images" / f"{name}.png")
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    Image.fromarray(images[9]).save(root / "images" / "copy.png")
    Image.fromarray(masks[9] * np.uint8(255)).save(root / "masks" / "copy.png")
    (root / "images" / "alone.png").write_bytes((root / "images" / "p03.png").read_bytes())
    return check(root)


@pytest.fixture(scope="module")
def page(result, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "check.html"
    path.write_text(render(result), encoding="utf-8")
    return path


def test_page_needs_nothing_from_outside(page):
    found = Page(page.read_text())
    assert 10 < len(found.addresses) <= WORST + 2 * COPIES
    assert all(address.startswith("data:image/jpeg;base64,") for address in found.addresses)
    assert all(link.startswith(("#", "data:,")) for link in found.links)
    inside = [link[1:] for link in found.links if link.startswith("#case")]
    assert inside and all(f'<figure id="{anchor}">' in page.read_text() for anchor in inside)
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)|<script", page.read_text())


def test_names_are_escaped_and_every_finding_is_there(page, result):
    shown = page.read_text()
    assert "<b>&" not in shown and "&lt;b&gt;&amp;" in shown
    assert "alone.png" in shown and "has no mask" in shown
    for finding in result.findings:
        assert str(Markup.escape(KINDS[finding.kind].remedy)) in shown  # what to do
        for image_id in finding.ids:
            assert image_id.replace("<b>&", "&lt;b&gt;&amp;") in shown


def test_console_names_the_worst_and_counts_the_others(result):
    shown = format_summary(result)
    assert shown.index("ERRORS: 2") < shown.index("WARNINGS") < shown.index("MOST SUSPICIOUS")
    holes = [f for f in result.findings if f.kind == "holes"]
    assert len(holes) > NAMED and f"and {len(holes) - NAMED} more" in shown
    assert all(i in shown for finding in holes for i in finding.ids)
    assert "not fit for training" in shown.splitlines()[-1]


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(page, browser, width):
    open_page(browser, page, width)
    run = browser.execute_script
    assert run("return innerWidth") == width
    run("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert run("return document.documentElement.scrollWidth") <= width  # no sideways scroll
    assert run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert browser.get_log("browser") == []


def test_no_more_pictures_are_read_than_drawn(result, monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "WORST", 3)
    result = result._replace(read=lambda i, read=result.read: drawn.append(i) or read(i))
    assert len(report._cases(result)) == 3
    assert len(drawn) <= 3
