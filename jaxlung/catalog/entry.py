"""What the catalogue says of a public set."""

from collections.abc import Mapping
from typing import Literal, NamedTuple


class NamedSet(NamedTuple):
    name: str
    description: str  # one line
    n: int  # images that have a mask
    convention: str  # the structure that its masks mark: LUNG or LUNG_AND_HEART
    terms: str  # the licence, and what it forbids
    instructions: str  # what to fetch and where to put it, under the folder of manual downloads
    homepage: str
    citation: str
    builder: str  # the name of its builder's module; its TFDS name is jaxlung_ and this
    manual: bool = True  # files have to be fetched by hand, behind a log-in or by git
    published: tuple[int, int, int] | None = None  # sizes of the usual train, validation, test
    folds: bool = False  # the set has two official folds
    same_images: tuple[str, ...] = ()  # other sets whose images it holds, all of them
    shared_images: tuple[str, ...] = ()  # other sets with which it has some images in common
    others: tuple[str, ...] = ()  # further structures that are drawn, on all images or most
    findings: Mapping[str, str] = {}  # pattern of an image's stem to the finding that it tells
    modality: Literal["xray", "ct"] = "xray"  # of CT the images are slices

    @property
    def module(self) -> str:
        """The module that holds the builder."""
        folder = "jaxlung.data.builders" + (".ct" if self.modality == "ct" else "")
        return f"{folder}.{self.builder}"
