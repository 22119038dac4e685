"""The kinds of finding: how bad each is, and what to do about it."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

ERROR, WARNING = "error", "warning"


class Kind(NamedTuple):
    """A kind of finding."""

    severity: str  # ERROR or WARNING
    title: str
    remedy: str  # one sentence


class Finding(NamedTuple):
    """One fault, with the names of what has it."""

    kind: str  # a key of KINDS
    ids: tuple[str, ...]  # the images that it is about; () for the whole folder
    message: str
    file: str = ""  # relative to the folder; "" for the whole folder
    evidence: float = 1.0  # in units of what is worth a warning: orders findings of one kind


def list_counts(counts: Iterable[tuple[str, int]]) -> list[str]:
    """Writes "NAME (COUNT)" for each name."""
    return [f"{name} ({count})" for name, count in counts]


_LOOK = "Look at the picture: a rare chest is rightly unlike the others; draw a wrong mask again."
_ONE_SPLIT = (
    "Keep one of them, or give them one patient in metadata.csv, so that no split parts them."
)

# Kind to title and remedy, worst first.
_ERRORS = {
    "unreadable": (
        "unreadable or damaged file",
        "Replace it by a sound copy, or take the pair out.",
    ),
    "not_xray": ("no X-ray", "Take the pair out: jaxlung trains on CT by its own config."),
    "no_mask": ("image without mask", "Add its mask, or move the image out of images/."),
    "no_image": ("mask without image", "Add its image, or move the mask out of masks/."),
    "same_stem": ("two files of one stem", "Keep one of them."),
    "size_mismatch": ("mask of another size than its image", "Export image and mask at one size."),
    "other_grid": (
        "mask on another grid than its scan",
        "Resample the mask to the scan's voxels, or copy the scan's header if they are those.",
    ),
    "not_hu": (
        "scan that is not in Hounsfield units",
        "Export it again with its rescale slope and intercept, not as 8 bits.",
    ),
    "mask_values": (
        "mask with values that are neither labels nor an outline",
        "Write the mask with two values, 0 and 255; it may be an image by mistake.",
    ),
    "empty_mask": (
        "empty mask",
        "Draw the lungs, or take the pair out: no mask is not an empty mask.",
    ),
    "full_mask": ("mask that covers the whole image", "Draw the lungs, or take it out."),
    "inverted_mask": (
        "inverted mask: 0 marks the lung",
        "Exchange 0 and the other value in the mask.",
    ),
    "blank_image": ("blank image", "Export the image again, or take the pair out."),
    "metadata": ("metadata.csv that training refuses", "Mend the row that is named."),
    "empty_split": (
        "empty split",
        "Add pairs, change the fractions, or list the splits in a file.",
    ),
}
_WARNINGS = {
    "unrelated": (
        "images do not explain the masks",
        "Look at some pairs: do the names of images and masks belong together?",
    ),
    "duplicate_across_splits": ("copies of one image in several splits", _ONE_SPLIT),
    "patient_across_splits": (
        "patient in several splits",
        "Put all images of a patient into one split.",
    ),
    "swapped_masks": (
        "masks that fit each other's image better",
        "Look at both: if each mask is the other image's, exchange their names.",
    ),
    "swapped_axes": (
        "axes that seem to be exchanged",
        "Look at the scan in a viewer: if the patient lies on the side there, mend the header.",
    ),
    "not_on_lung": (
        "mask that does not lie on the lungs",
        "Look at the picture: is the mask of another scan? Collapsed lungs are rightly unlike air.",
    ),
    "misaligned_mask": (
        "mask shifted against its image",
        "Look at the picture: if the outline lies beside the lungs, export the mask again.",
    ),
    "mirrored_mask": (
        "mask that fits better mirrored or upside down",
        "Look at the picture: if so, mirror or turn the mask.",
    ),
    "lung_volume": (
        "implausible volume of the lungs",
        "Look at the header's spacing, and whether the scan is whole.",
    ),
    "spacing": ("implausible spacing", "Mend the header: lengths are in mm."),
    "default_header": (
        "default header: spacing and sides unsure",
        "Convert the scan again from its source, in a way that keeps the affine.",
    ),
    "shifted_hu": (
        "scan whose values were shifted to Hounsfield units",
        "Nothing, if it looks right: training shifts it likewise.",
    ),
    "one_lung": ("mask with one lung", "Draw the other lung, unless the patient has one alone."),
    "unexpected_outline": ("outline unlike what the other masks lead to expect", _LOOK),
    "coverage": ("unusual area of lung", _LOOK),
    "aspect": ("unusual proportions", "Export the film unstretched, and upright; or leave it out."),
    "pieces": ("mask in many pieces", "Erase what is no lung."),
    "holes": ("mask with holes", "Fill them, unless they are meant."),
    "joined_lungs": (
        "both lungs in one piece",
        "Nothing, if the lungs need no scores of their own; else part them in the mask.",
    ),
    "near_duplicate": ("copies of one image", _ONE_SPLIT),
    "duplicate_mask": (
        "one mask for several images",
        "Look at each: one image has another's mask.",
    ),
    "inverted_image": (
        "lungs brighter than what surrounds them",
        "Look at the picture: if it is a negative, invert the image.",
    ),
    "low_contrast": (
        "image with few grey levels in use",
        "Export the film with its window, or cut its few extreme values.",
    ),
    "colour": ("coloured image", "Look for annotations drawn on the film, and export it without."),
    "labels": ("masks with several labels", "Nothing, if every label but 0 is lung; else drop it."),
    "mixed_formats": (
        "files of several formats",
        "Nothing, if it is meant: each file is read as it is.",
    ),
    "square_files": (
        "all files have one square size",
        "Nothing, if they were not stretched; else export them in their own proportions, or "
        "train with --config.data.fit=stretch, which stretches what is predicted on in the same "
        "way.",
    ),
    "not_read": ("files that are not read", "Nothing, if they are no images; else convert them."),
}
KINDS: Mapping[str, Kind] = {  # worst first: the order in which findings are listed
    **{kind: Kind(ERROR, *about) for kind, about in _ERRORS.items()},
    **{kind: Kind(WARNING, *about) for kind, about in _WARNINGS.items()},
}
