"""Draws the charts of a report, as SVG for inside an HTML page."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlung.structures import LUNG

BLUE, RUST, GREY = "#1f6fb2", "#b3420f", "#5b6570"
_STYLE: dict[Any, Any] = {  # Any: Matplotlib types its keys as literals
    "font.size": 11,
    "font.family": "sans-serif",
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's own font
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "grid.color": "#e3e7ea",
    "axes.axisbelow": True,
}


def plot_strips(
    columns: Mapping[str, np.ndarray], *, xlabel: str, title: str, name: str, log: bool = False
) -> str:
    """Draws a row for each column: values as dots, quartiles as a box, the mean as a line.

    Args:
        columns: label to values; NaN is left out.
        xlabel, title: of the chart.
        name: unique in a page.
        log: a logarithmic axis that is linear below 1 and begins at 0.

    Returns:
        an SVG element.
    """
    figure, axis = _figure(0.9 + 0.55 * len(columns))
    jitter = np.random.default_rng(0)
    for row, values in enumerate(columns.values()):
        values = values[~np.isnan(values)]
        if not len(values):
            continue
        offset = row + jitter.uniform(-0.3, 0.3, len(values))
        dots = {"color": BLUE, "alpha": 0.35, "markersize": 4, "markeredgewidth": 0}
        axis.plot(values, offset, ".", rasterized=len(values) > 2000, **dots)
        q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
        axis.barh(row, q3 - q1, left=q1, height=0.64, color="none", edgecolor=GREY, linewidth=1.2)
        axis.plot([median, median], [row - 0.32, row + 0.32], color=GREY, linewidth=1.6)
        axis.plot([values.mean()] * 2, [row - 0.42, row + 0.42], color=RUST, linewidth=1.6)
    axis.set_yticks(range(len(columns)), list(columns))
    axis.set_ylim(len(columns) - 0.45, -0.55)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)
    if log:
        axis.set_xscale("symlog", linthresh=1.0)
        axis.set_xlim(left=0)
        axis.xaxis.set_major_formatter("{x:g}")
    axis.set(xlabel=xlabel, title=title)
    return _svg(figure, name, title)


def plot_scatter(
    dice_N: np.ndarray,
    hd95_N: np.ndarray,
    flagged_N: Sequence[bool],
    links: Sequence[str],
    *,
    name: str,
) -> str:
    """Draws HD95 against Dice. Each point is a link, and flagged images are crosses.

    Args:
        dice_N: Dice of N images.
        hd95_N: HD95, in pixels.
        flagged_N: whether an image is flagged.
        links: the address that a point leads to, for each image.
        name: unique in a page.

    Returns:
        an SVG element.
    """
    title = "Dice against HD95"
    figure, axis = _figure(3.4)
    flagged = np.asarray(flagged_N, bool)
    for chosen, marker, colour, label in (
        (~flagged, "o", BLUE, "not flagged"),
        (flagged, "X", RUST, "flagged"),
    ):
        style = {"s": 26, "marker": marker, "color": colour, "alpha": 0.7, "linewidth": 0}
        label = f"{label} ({chosen.sum()})"
        points = axis.scatter(dice_N[chosen], hd95_N[chosen], label=label, **style)
        points.set_urls([link for link, c in zip(links, chosen, strict=True) if c])
    axis.locator_params(axis="x", nbins=6)  # four decimals need room
    axis.set_yscale("symlog", linthresh=1.0)
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set(xlabel="Dice", ylabel="HD95, pixels", title=title)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return _svg(figure, name, title)


def plot_reliability(curve: Mapping[str, Any], *, name: str, structure: str = LUNG) -> str:
    """Draws a structure's share against the mean probability, and the number of pixels of each bin.

    Args:
        curve: as `calibration.reliability_curve` returns it.
        name: unique in a page.
        structure: what the masks mark.

    Returns:
        an SVG element.
    """
    title = f"Calibration, ECE {curve['ece']:.4f}"
    figure, axis = _figure(3.4)
    bins = [i for i, count in enumerate(curve["pixels"]) if count]
    x = [curve["mean_probability"][i] for i in bins]
    axis.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="perfect")
    axis.plot(x, [curve["lung_share"][i] for i in bins], "o-", color=BLUE, label="model")
    axis.set(xlabel=f"predicted probability of {structure}", ylabel=f"share that is {structure}")
    axis.set(title=title)
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    counts = axis.twinx()
    counts.bar(
        x, [curve["pixels"][i] for i in bins], width=0.5 / curve["bins"], color=RUST, alpha=0.25
    )
    counts.set_yscale("log")
    counts.set_ylabel("pixels (bars)", color=RUST)
    counts.grid(visible=False)
    return _svg(figure, name, title)


def _figure(height: float) -> tuple[Any, Any]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.4, height), layout="constrained")
        return figure, figure.add_subplot()


def _svg(figure: Any, name: str, title: str) -> str:
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):  # else two charts share ids
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # every chart has a "figure_1"
    svg = svg.replace(' target="_blank"', "")  # links lead to the page itself
    head, rest = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)  # the page scales it by its viewBox
    return f'{head} role="img" aria-label="{html.escape(title)}">{rest}'
