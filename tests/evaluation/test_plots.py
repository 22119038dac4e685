"""Charts that stand inside a page, and the small pictures beside them."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from jaxlung.evaluation import plots
from jaxlung.io.viewers.drawing import draw_thumbnail
from jaxlung.metrics.calibration import count_reliability, reliability_curve

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
HREF, USE = f"{{{XLINK}}}href", f"{{{SVG}}}use"
LINKS = [*(f"#image-{i}" for i in range(10)), "#x&y", '#"quoted"', "#<tag>"]


def values(n=20, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 1, n)


def strips(name="strips", columns=None, **options):
    columns = columns or {"Dice": values(), "IoU & more": values(5)}
    return plots.plot_strips(columns, xlabel="share", title="Overlap", name=name, **options)


def scatter(name="scatter", links=LINKS):
    n = len(links)
    flagged = [i % 3 == 0 for i in range(n)]
    return plots.plot_scatter(values(n), 50 * values(n, 1), flagged, links, name=name)


def calibration(name="calibration"):
    probability = values(500)
    sums = count_reliability(probability, np.random.default_rng(1).random(500) < probability)
    return plots.plot_reliability(reliability_curve(sums), name=name)


def strips_log(name="log"):
    columns = {"HD95": np.append(0, 100 * values()), "ASSD": np.zeros(4)}
    return strips(name, columns, log=True)


CHARTS = {"strips": strips, "log": strips_log, "scatter": scatter, "calibration": calibration}


@pytest.fixture(scope="module")
def drawn():
    return {name: chart() for name, chart in CHARTS.items()}


def ids(svg):
    return [e.get("id") for e in ElementTree.fromstring(svg).iter() if e.get("id")]


@pytest.mark.parametrize("name", CHARTS)
def test_stands_inside_a_page(drawn, name):
    svg = drawn[name]
    assert svg.startswith("<svg")
    assert f'xmlns="{SVG}"' in svg and f'xmlns:xlink="{XLINK}"' in svg
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{{{SVG}}}svg" and root.get("viewBox") and root.get("aria-label")
    assert root.get("width") is None and root.get("height") is None
    assert "metadata" not in svg and 'target="_blank"' not in svg
    # Nothing is fetched: the only addresses are names of namespaces.
    assert set(re.findall(r"""https?:[^"'\s<>]*""", svg)) == {SVG, XLINK}
    assert svg.count("http") == 2


@pytest.mark.parametrize("name", CHARTS)
def test_what_it_refers_to_is_there(drawn, name):
    root = ElementTree.fromstring(drawn[name])
    used = {e.get(HREF) for e in root.iter(USE)}
    used |= set(re.findall(r"url\((#[^)]*)\)", drawn[name]))
    assert used and used <= {f"#{i}" for i in ids(drawn[name])}


@pytest.mark.parametrize("name", CHARTS)
def test_no_id_is_twice_in_a_page(drawn, name):
    first, second = ids(drawn[name]), ids(CHARTS[name]("another"))
    assert first and len(set(first)) == len(first)
    assert not set(first) & set(second)


def test_different_charts_share_no_id(drawn):
    every = [i for svg in drawn.values() for i in ids(svg)]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("name", CHARTS)
def test_same_input_same_text(drawn, name):
    assert CHARTS[name]() == drawn[name]


def test_text_stays_text(drawn):
    text = {e.text.strip() for e in ElementTree.fromstring(drawn["strips"]).iter() if e.text}
    assert {"Dice", "IoU & more", "share", "Overlap"} <= text


def hrefs(svg):
    return sorted(e.get(HREF) for e in ElementTree.fromstring(svg).iter(f"{{{SVG}}}a"))


def test_scatter_holds_every_link_once(drawn):
    assert hrefs(drawn["scatter"]) == sorted(LINKS)


@pytest.mark.parametrize("n", [0, 1, 2, 300])
def test_scatter_of_few_and_many(n):
    links = [f"#{i}" for i in range(n)]
    assert hrefs(scatter(links=links)) == sorted(links)


def test_scatter_links_lead_to_their_own_point():
    dice = np.array([0.2, 0.9, 0.4, 0.7])
    svg = plots.plot_scatter(
        dice, np.ones(4), [True, False, False, True], list("abcd"), name="points"
    )
    links = ElementTree.fromstring(svg).iter(f"{{{SVG}}}a")
    x = {link.get(HREF): float(next(link.iter(USE)).get("x")) for link in links}
    assert sorted(x, key=x.__getitem__) == ["a", "c", "d", "b"]


def test_scatter_needs_a_link_for_each():
    with pytest.raises(ValueError):
        plots.plot_scatter(np.ones(2), np.ones(2), [True, False], ["#a"], name="short")


@pytest.mark.parametrize("log", [False, True])
def test_nan_is_left_out(log):
    gaps = {"a": np.array([np.nan, 0.5, np.nan, 2.0]), "b": np.full(3, np.nan), "c": values()}
    whole = {"a": np.array([0.5, 2.0]), "b": np.empty(0), "c": values()}
    svg = strips(columns=gaps, log=log)
    assert svg == strips(columns=whole, log=log)
    assert svg != strips(columns=whole | {"a": np.array([0.5, 3.0])}, log=log)
    assert len(svg) > len(strips(columns={"a": np.full(3, np.nan)}, log=log))


def test_calibration_names_its_structure():
    curve = reliability_curve(count_reliability(values(500), values(500, 1) < 0.5))
    for structure in ("lung", "heart"):
        svg = plots.plot_reliability(curve, name="c", structure=structure)
        for label in (f"predicted probability of {structure}", f"share that is {structure}"):
            assert label in svg


@pytest.mark.parametrize("pixels", [np.empty(0), np.zeros(9), np.ones(9)])
def test_calibration_of_few_pixels(pixels):
    ElementTree.fromstring(
        plots.plot_reliability(
            reliability_curve(count_reliability(pixels, np.ones(len(pixels), bool))), name="few"
        )
    )


def box(shape, top, bottom, left, right):
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


SHAPES = [(60, 80), (900, 700), (3, 5), (20, 400), (400, 20), (1, 1)]


@pytest.mark.parametrize("side", [448, 100])
@pytest.mark.parametrize("shape", SHAPES)
def test_thumbnail_size(shape, side):
    full = np.ones(shape, bool)
    for image in (None, np.zeros(shape, np.uint8)):
        picture = draw_thumbnail(image, full, full, side)
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        assert max(picture.shape[:2]) == side
        expected = np.array(shape) * side / max(shape)
        np.testing.assert_allclose(picture.shape[:2], expected, atol=0.5)


@pytest.mark.parametrize("which", ["truth", "prediction"])
@pytest.mark.parametrize("side", [448, 100])
@pytest.mark.parametrize(
    ("shape", "edges"),
    [
        ((60, 80), (10, 40, 20, 70)),
        ((900, 700), (100, 620, 33, 471)),
        ((3, 5), (0, 2, 1, 4)),
        ((20, 400), (5, 15, 100, 330)),
    ],
)
def test_outline_is_near_the_masks_edge(shape, edges, side, which):
    empty, mask = np.zeros(shape, bool), box(shape, *edges)
    masks = (empty, mask) if which == "truth" else (mask, empty)
    picture = draw_thumbnail(np.zeros(shape, np.uint8), *masks, side)
    red, _, blue = np.moveaxis(picture.astype(int), -1, 0)
    coloured = blue > red if which == "truth" else red > blue
    np.testing.assert_array_equal(coloured, picture.any(axis=-1))  # the other's is nowhere
    rows, columns = np.nonzero(coloured)
    scale = side / max(shape)
    # The line runs through the centres of the mask's outermost pixels.
    top, bottom, left, right = (
        (edge + inward) * scale - 0.5 for edge, inward in zip(edges, (0.5, -0.5) * 2, strict=True)
    )
    ends = rows.min(), rows.max(), columns.min(), columns.max()
    np.testing.assert_allclose(ends, (top, bottom, left, right), atol=1.5)
    near_row = np.minimum(abs(rows - top), abs(rows - bottom)) <= 1.5
    near_column = np.minimum(abs(columns - left), abs(columns - right)) <= 1.5
    assert (near_row | near_column).all()


def test_thumbnail_without_image_shows_the_truth():
    truth = box((60, 80), 10, 40, 20, 70)
    picture = draw_thumbnail(None, np.zeros_like(truth), truth, 160)
    inside, outside = picture[25:75, 45:135], picture[:15]
    assert len(np.unique(inside)) == len(np.unique(outside)) == 1
    assert inside.min() > outside.max()


def test_thumbnail_shows_the_image():
    image = np.random.default_rng(0).integers(0, 256, (30, 40), np.uint8)
    empty = np.zeros((30, 40), bool)
    picture = draw_thumbnail(image, empty, empty, 40)
    np.testing.assert_array_equal(picture, np.repeat(image[..., None], 3, axis=-1))
    colour = draw_thumbnail(np.dstack([image] * 3).astype(np.uint16), empty, empty, 20)
    assert colour.shape == (15, 20, 3) and colour.std() > 0
