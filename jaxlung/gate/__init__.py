"""The sanity gate: warns of images that are no upright frontal chest X-ray, and of odd masks.

`examine` looks at the image before prediction, `check_mask` at the predicted mask.
"""

from jaxlung.gate.image import Verdict, examine
from jaxlung.gate.mask import check_mask

__all__ = ["Verdict", "check_mask", "examine"]
