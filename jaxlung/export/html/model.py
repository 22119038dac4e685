"""Says all that a page needs of a model: the plan of its network, its rules, and the gate's.

Words and thresholds stand in the modules that have them in Python, and once only.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxlung.errors import InputError
from jaxlung.export.exported import Exported, count_channels
from jaxlung.export.html.plan import Plan, make_plan
from jaxlung.gate import image, mask
from jaxlung.gate.classifier import CLASSES, read_gate
from jaxlung.io.grey import BLANK
from jaxlung.masks.shape import ONE_LUNG, SECOND_LUNG
from jaxlung.structures import mirror_order


class PageModel(NamedTuple):
    """A model for a page."""

    about: dict[str, Any]  # values of JSON
    arrays: bytes  # of the network, then of the gate: `about` says where each begins
    plan: Plan


def describe_model(exported: Exported) -> PageModel:
    """Describes a model of X-rays, whose kernels are float16.

    Raises:
        InputError: it is of CT, or its network has what the engine has not.
    """
    model = exported.model
    config = model.config
    if config.modality == "ct" or count_channels(model) != 1:
        raise InputError(
            f"{model.workdir}: is a model of CT, and a page is for X-rays; export it to another "
            f"format"
        )
    members = [jax.device_get(model.variables)]
    if model.members > 1:
        members = [_take(members[0], i) for i in range(model.members)]
    plan = make_plan(config.model, members, config.data.size)
    halves = plan.kernels.astype("<f2").reshape(-1)
    split = halves.view(np.uint8).reshape(-1, 2)  # the high bytes alone compress well
    parts = [split[:, 0].tobytes(), split[:, 1].tobytes(), plan.vectors.astype("<f4").tobytes()]
    network = sum(map(len, parts))
    gate, gate_arrays = _describe_gate()
    about = {
        **exported.about,
        "confidence": {
            name: model.confidences[name]._asdict()
            for name in config.model.outputs
            if name in model.confidences
        },
        "pieces": exported.about.get("pieces", {}),
        "mirror": list(mirror_order(config.model.outputs)) if model.tta else None,
        "plan": {
            "size": config.data.size,
            "outputs": len(config.model.outputs),
            "members": model.members,
            "kernels": plan.kernels.shape[1],
            "vectors": plan.vectors.shape[1],
            "steps": plan.steps,
            "image": plan.image,
            "logits": plan.logits,
            "bytes": plan.bytes,
        },
        "network": network,
        "gate": gate,
        "rules": _describe_rules(),
        "turns": model.turn,
    }
    return PageModel(about, b"".join(parts) + gate_arrays, plan)


def _take(variables: Any, member: int) -> Any:
    return jax.tree.map(lambda stacked: np.asarray(stacked)[member], variables)


def _describe_gate() -> tuple[dict[str, Any], bytes]:
    fitted = read_gate()
    data = b"".join(array.astype("<f4").tobytes() for array in fitted.values())
    gate = {
        "arrays": [[name, array.size] for name, array in fitted.items()],
        "classes": CLASSES,
        "words": image.WORDS,
        "turned": image.TURNED,
        "sides_unsure": sorted(image.SIDES_UNSURE),
        "upright": image.UPRIGHT,
        "lateral": image.LATERAL,
        "sure": image.SURE,
        "low_contrast": image.LOW_CONTRAST,
        "blank": BLANK,
        "tiny": image.TINY,
        "long": image.LONG,
        "colour": image.COLOUR,
        "coloured_share": image.COLOURED_SHARE,
    }
    return gate, data


def _describe_rules() -> dict[str, float]:
    return {
        "second_lung": SECOND_LUNG,
        "one_lung": ONE_LUNG,
        "shape_side": mask.SHAPE_SIDE,
        "small_lungs": mask.SMALL_LUNGS,
        "large_lungs": mask.LARGE_LUNGS,
        "lung_ratio": mask.LUNG_RATIO,
    }
