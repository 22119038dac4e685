"""The page: self-contained, escaped, linked; and in a real browser, wide and narrow."""

import base64
import html
import io
import re

import numpy as np
import pytest
from PIL import Image

from jaxlung.evaluation import report
from jaxlung.evaluation.mask_scores import score
from jaxlung.evaluation.report import choose_cases, render
from jaxlung.metrics.image import Tolerance
from jaxlung.metrics.set_scores import compare_models, describe_settings, summarize_scores
from jaxlung.system.environment import describe_environment
from tests.helpers.pages import Page, open_page
from tests.metrics.test_set_scores import example_scores

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


WORST = NAMES[5]  # without prediction


def dice_of(folders, name):
    truth, prediction = (
        np.asarray(Image.open(folders / f / f"{name}.png")) > 0 for f in ("truth", "pred")
    )
    return 2 * (truth & prediction).sum() / (truth.sum() + prediction.sum())


def test_every_picture_and_row_is_of_its_image(page, folders):
    """The Dice beside a name is that image's, the outlines drawn are too, and rows sink."""
    text = page.read_text()
    captions = re.findall(
        r'base64,([^"]+)".*?<a href="#row-0-(\d+)">(.*?)</a><br>Dice ([\d.]+)', text, re.DOTALL
    )
    assert len(captions) == 24
    for data, index, name, dice in captions:
        name = html.unescape(name)
        stem = sorted(NAMES)[int(index)]
        assert name == stem
        if name == WORST:
            assert dice == "0.0000"
            continue
        assert float(dice) == pytest.approx(dice_of(folders, name), abs=1e-4)
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        film = Image.open(folders / "images" / f"{name}.png").resize(picture.shape[1::-1])
        match = np.corrcoef(picture[..., 1].ravel(), np.asarray(film).ravel())[0, 1]
        assert match > 0.7, name  # noise that no other image has
    rows = re.findall(r'<tr id="row-0-\d+"><td>.*?</td><td>([\d.]+)</td>', text)
    assert [float(row) for row in rows] == sorted(map(float, rows)) and len(rows) == len(NAMES)


def test_points_of_the_scatter_lead_to_their_images(page):
    """From left to right the points' images have ever more Dice."""
    text = page.read_text()
    points = re.findall(
        r'xlink:href="#(?:case|row)-0-(\d+)">.*?<use [^>]*x="([\d.]+)"', text, re.DOTALL
    )
    assert len(points) == len(NAMES)
    dice = dict(re.findall(r'<tr id="row-0-(\d+)"><td>.*?</td><td>([\d.]+)</td>', text))
    places = sorted((float(x), float(dice[index])) for index, x in points)
    assert [d for _, d in places] == sorted(d for _, d in places)


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
def page_of_many(tmp_path_factory):
    """Two models on five sets; the charts of the first section stand in all, to save time."""
    results = [
        example_scores(model=f"model_{m}", data=f"a_set_of_images_{s}")
        for m in range(2)
        for s in range(5)
    ]
    summary = summarize_scores(results[0])
    evaluation = {
        "settings": describe_settings(Tolerance()),
        "results": [{**summary, "model": r.model, "set": r.data} for r in results],
        "models": {r.model: {"masks": "m", "masks_sha256": "0" * 64} for r in results},
        "comparisons": compare_models(results),
        "environment": describe_environment(devices=False),
    }
    path = tmp_path_factory.mktemp("many") / "report.html"
    draw, drawn = report._charts, []

    def draw_once(*arguments):
        if not drawn:
            drawn.extend(draw(*arguments))
        return drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "_charts", draw_once)
        path.write_text(render(evaluation, results))
    return path


@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_of_many_sets_fits(width, browser, page_of_many):
    open_page(browser, page_of_many, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(page, browser, width):
    open_page(browser, page, width)
    run = browser.execute_script
    assert run("return innerWidth") == width
    assert run("return document.documentElement.scrollWidth") <= width  # no sideways scroll
    assert run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert run("return document.images.length") == 24

    # The first row is the worst case: one click leads to its picture.
    link = browser.find_element("css selector", ".images tbody tr td a")
    name = link.text
    assert name == WORST
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
