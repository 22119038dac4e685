"""One record for each metric. Scores, tables, charts, files and documents are made from METRICS.

To add an overlap metric, write its function in `metrics.overlap` and its record here. The scores of
an image, the summaries, the console, per_image.csv and report.html then have it too. A test asks
for its row in docs/metrics.md.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from jaxlung.masks.sides import SIDES
from jaxlung.metrics import overlap, surface

UNITS = ("px", "mm")  # of outlines, in the order of the columns


class Metric(NamedTuple):
    """How a metric is called, computed and shown."""

    name: str  # in metrics.json and per_image.csv
    label: str  # in tables and charts
    kind: Literal["overlap", "distance", "outline"]
    """"overlap" is a share in [0, 1] of pixels. "distance" is a length, in pixels or mm, between
    two outlines. "outline" is a share in [0, 1] of two outlines, at a tolerance in pixels or mm."""
    compute: Callable[..., Any]
    """Of kind "overlap": takes the `Counts` of B images, returns [B]. Of the other kinds: takes
    the `SurfaceDistances` of an image and the tolerance of NSD in their unit, returns a float."""
    by_lung: bool = False  # each lung has a score of its own
    charted: bool = True  # the report draws it

    @property
    def bad_end(self) -> Literal["low", "high"]:
        """The end of the range at which bad predictions lie."""
        return "high" if self.kind == "distance" else "low"


class Column(NamedTuple):
    """A column of scores: a metric in one unit, of one lung or of both together."""

    metric: Metric
    unit: str = ""  # one of UNITS; "" for kind "overlap"
    side: str = ""  # one of SIDES; "" for both lungs together

    @property
    def name(self) -> str:
        """The name in metrics.json and per_image.csv, such as "hd95_px_right"."""
        return "_".join(part for part in (self.metric.name, self.unit, self.side) if part)

    @property
    def of_lung(self) -> str:
        """The end of a label: ", right lung", or "" for both lungs together."""
        return f", {self.side} lung" if self.side else ""

    def label(self, settings: Mapping[str, Any]) -> str:
        """The label for a table, such as "HD95 (px), right lung" or "NSD at 2 px".

        Args:
            settings: as `set_scores.describe_settings` returns them.
        """
        unit = f" ({self.unit})" if self.metric.kind == "distance" else ""
        if self.metric.kind == "outline":
            unit = f" at {settings[f'nsd_tolerance_{self.unit}']:g} {self.unit}"
        return self.metric.label + unit + self.of_lung

    def format(self, number: float | None) -> str:
        """A number for a table: a share with four decimals, a distance with two; a dash for NaN."""
        if number is None or number != number:
            return "\N{EN DASH}"
        return f"{number:.2f}" if self.metric.kind == "distance" else f"{number:.4f}"


METRICS = (
    Metric("dice", "Dice", "overlap", overlap.dice, by_lung=True),
    Metric("iou", "IoU", "overlap", overlap.iou),
    Metric("precision", "Precision", "overlap", overlap.precision, charted=False),
    Metric("recall", "Recall", "overlap", overlap.recall, charted=False),
    Metric("accuracy", "Accuracy", "overlap", overlap.accuracy, charted=False),
    Metric("hd", "HD", "distance", lambda d, _: surface.hausdorff(d), by_lung=True),
    Metric("hd95", "HD95", "distance", lambda d, _: surface.hausdorff(d, 95), by_lung=True),
    Metric("assd", "ASSD", "distance", lambda d, _: surface.assd(d), by_lung=True),
    Metric("nsd", "NSD", "outline", surface.nsd, by_lung=True),
)


def overlap_metrics() -> dict[str, Callable[..., Any]]:
    """Maps names to functions, for the metrics of kind "overlap".

    Example:
        >>> list(overlap_metrics())
        ['dice', 'iou', 'precision', 'recall', 'accuracy']
    """
    return {metric.name: metric.compute for metric in METRICS if metric.kind == "overlap"}


def score_columns() -> dict[str, Column]:
    """Maps names to columns, in the order of metrics.json and per_image.csv.

    Both lungs together come first, then the right and the left one. In each: the overlap, the
    outlines in pixels, the outlines in mm.

    Example:
        >>> columns = score_columns()
        >>> list(columns)[:6]
        ['dice', 'iou', 'precision', 'recall', 'accuracy', 'hd_px']
        >>> columns["hd95_px_right"].label({})
        'HD95 (px), right lung'
    """
    columns = [
        Column(metric, unit, side)
        for side in ("", *SIDES)
        for unit in ("", *UNITS)
        for metric in METRICS
        if (metric.kind == "overlap") == (unit == "") and (metric.by_lung or not side)
    ]
    return {column.name: column for column in columns}


def volume_columns() -> dict[str, Column]:
    """Maps names to those columns of `score_columns` that whole volumes have: none in pixels.

    Example:
        >>> [name for name in volume_columns() if not name.endswith(("right", "left"))][5:]
        ['hd_mm', 'hd95_mm', 'assd_mm', 'nsd_mm']
    """
    return {name: column for name, column in score_columns().items() if column.unit != "px"}
