"""The nodes and arrays of an ONNX graph in the making."""

from typing import Any, NamedTuple

import numpy as np

from jaxlung.export.exported import is_kernel


class Value(NamedTuple):
    """A result in the graph: float32 [B, channels, side, side]."""

    name: str
    channels: int
    side: int


class Graph:
    """Nodes and arrays in the making; an array is there once, however often it is used."""

    def __init__(self, *, float16: bool):
        self.float16 = float16
        self.nodes: list[Any] = []
        self.arrays: dict[str, Any] = {}

    def add(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node; its result has its name, which is returned."""
        import onnx

        self.nodes.append(onnx.helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def array(self, name: str, array: Any) -> str:
        """Adds a constant, a kernel perhaps as float16, and returns its name."""
        import onnx

        if name not in self.arrays:
            array = np.asarray(array, order="C")
            is_half = self.float16 and is_kernel(name)
            stored = array.astype(np.float16) if is_half else array
            kept = f"{name}/float16" if is_half else name
            self.arrays[name] = onnx.numpy_helper.from_array(stored, kept)
            if is_half:
                self.add("Cast", name, kept, to=onnx.TensorProto.FLOAT)
        return name
