"""Writes a model as ONNX, and runs the file as its users will."""

import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from jaxlung.errors import InputError
from jaxlung.export.check import Run, compare
from jaxlung.export.exported import CANVAS, Exported
from jaxlung.export.onnx_graph import build_graph
from jaxlung.system.files import write_whole

# Of a probability. Each runtime sums in an order of its own, which is up to 1e-4 on films, and more
# for a model that has not learned from films. A wrong graph is off by tenths.
TOLERANCE = 1e-3
# Bytes of weights: protobuf, which ONNX is written in, ends at 2 GiB with all else.
_LARGEST = 2**31 - 2**22


def write_onnx(exported: Exported, out: Path) -> str:
    """Writes the file, whole or not at all.

    Returns:
        How it was checked, in words.

    Raises:
        InputError: it is too large, no runtime here can run it, or it computes other probabilities.
    """
    import onnx

    proto = build_graph(exported)
    if sum(len(array.raw_data) for array in proto.graph.initializer) > _LARGEST:
        raise InputError(
            f"{exported.model.workdir}: is larger than 2 GiB, which ONNX cannot hold in a file; "
            f"pass --float16, or --format stablehlo"
        )
    onnx.checker.check_model(proto, full_check=True)
    with write_whole(out) as partial:
        partial.write_bytes(proto.SerializeToString())
        runtime, run = open_here(partial, list(exported.model.config.model.outputs))
        difference = compare(exported, run, TOLERANCE)
    return f"on phantoms within {difference:.0e} of JAX in {runtime}"


def open_here(path: Path, outputs: list[str]) -> tuple[str, Run]:
    """Opens a file in ONNX Runtime, or where that is not installed in OpenCV.

    Returns:
        The runtime with its version, and the function that runs the file.
    """
    if importlib.util.find_spec("onnxruntime"):
        return run_by_onnxruntime(path, outputs)
    return run_by_opencv(path, outputs)


def run_by_onnxruntime(path: Path, outputs: list[str]) -> tuple[str, Run]:
    """Opens a file in ONNX Runtime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared
    session: Any = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )

    def run(canvas_BxSxS: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(outputs, session.run(outputs, {CANVAS: canvas_BxSxS}), strict=True))

    return f"ONNX Runtime {onnxruntime.__version__}", run


def run_by_opencv(path: Path, outputs: list[str]) -> tuple[str, Run]:
    """Opens a file in OpenCV.

    Raises:
        InputError: this OpenCV cannot read it.
    """
    try:
        net = cv2.dnn.readNetFromONNX(np.frombuffer(path.read_bytes(), np.uint8))
    except cv2.error as error:
        raise InputError(
            f"OpenCV {cv2.__version__} cannot read what was written, to check it; install ONNX "
            f"Runtime: pip install onnxruntime"
        ) from error

    def run(canvas_BxSxS: np.ndarray) -> dict[str, np.ndarray]:
        net.setInput(canvas_BxSxS, CANVAS)
        return dict(zip(outputs, net.forward(outputs), strict=True))

    return f"OpenCV {cv2.__version__}", run
