"""Metrics of masks. Overlap from pixel counts, distances of outlines, statistics over images."""

from jaxlung.metrics.overlap import (
    Counts,
    accuracy,
    count_pixels,
    count_pixels_of_each,
    dice,
    iou,
    pool,
    pool_groups,
    precision,
    recall,
)
from jaxlung.metrics.surface import SurfaceDistances, assd, hausdorff, nsd, surface_distances

__all__ = [
    "Counts",
    "SurfaceDistances",
    "accuracy",
    "assd",
    "count_pixels",
    "count_pixels_of_each",
    "dice",
    "hausdorff",
    "iou",
    "nsd",
    "pool",
    "pool_groups",
    "precision",
    "recall",
    "surface_distances",
]
