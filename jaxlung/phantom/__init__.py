"""Simulated chest radiographs with exact lung masks."""

from jaxlung.phantom.film import radiograph, radiographs

__all__ = ["radiograph", "radiographs"]
