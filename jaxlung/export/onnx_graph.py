"""Writes the U-Net as an ONNX graph, from its parameters.

It follows `jaxlung.model.UNet` layer by layer, with channels before rows and columns, as ONNX has
them. All of it is in opset 17 of 2022, which each runtime of today knows. Group normalisation is
InstanceNormalization of a group's channels in a row: the checker refuses ONNX's own operator.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlung.export.exported import CANVAS, Exported, count_channels
from jaxlung.export.onnx_nodes import Graph, Value
from jaxlung.structures import mirror_order
from jaxlung.version import __version__

_OPSET = 17
_IR = 8  # of the files of that time: older readers refuse newer ones
_EPSILON = {"group": 1e-6, "batch": 1e-5, "standardize": 1e-6}


@dataclasses.dataclass(frozen=True)
class _Network:
    """A U-Net to be added to a graph; `prefix` names its nodes, `arrays` its weights."""

    graph: Graph
    config: Any  # `ModelConfig`
    params: Mapping[str, Any]
    stats: Mapping[str, Any]
    arrays: str
    prefix: str

    def add(self, image: Value) -> Value:
        """Adds the way from an image in [0, 1] to the logits."""
        c = self.config
        x = self._standardize(image) if c.standardize else image
        if c.patch > 1:
            x = self._conv("stem", x, c.patch)
        skips = []
        for level in range(c.depth):
            x = self._block(f"encoder{level}", x)
            skips.append(x)
            pooled = self._node("MaxPool", f"pool{level}", x, kernel_shape=[2, 2], strides=[2, 2])
            x = Value(pooled, x.channels, x.side // 2)
        x = self._block("bottleneck", x)
        for level in reversed(range(c.depth)):
            x = self._up(f"up{level}", x, 2)
            skip = self._gate(f"gate{level}", skips[level], x) if c.attention else skips[level]
            x = self._block(f"decoder{level}", self._join(f"join{level}", skip, x))
        return self._up("head", x, c.patch) if c.patch > 1 else self._conv("head", x)

    def _node(self, kind: str, name: str, *inputs: Value | str, **attributes: Any) -> str:
        names = [one.name if isinstance(one, Value) else one for one in inputs]
        return self.graph.add(kind, self.prefix + name, *names, **attributes)

    def _array(self, name: str, array: Any) -> str:
        return self.graph.array(self.arrays + name, array)

    def _standardize(self, image: Value) -> Value:
        """Brings the whole image, whatever channels it has, to zero mean and unit variance."""
        return image._replace(
            name=self._norm_groups("standardize", image, 1, _EPSILON["standardize"])
        )

    def _norm_groups(self, name: str, x: Value, groups: int, epsilon: float) -> str:
        """Brings each group of channels to zero mean and unit variance.

        The mean is taken away first, by rows: ONNX Runtime sums a whole group in float32, and its
        probabilities were up to 7e-4 off where features vary little.
        """
        in_groups = self.graph.array(f"shape/{groups}x{x.side}", np.array([0, groups, -1, x.side]))
        as_before = self.graph.array(
            f"shape/{x.channels}x{x.side}x{x.side}", np.array([0, x.channels, x.side, x.side])
        )
        one = self.graph.array(f"one/{groups}", np.ones(groups, np.float32))
        zero = self.graph.array(f"zero/{groups}", np.zeros(groups, np.float32))
        given = self._node("Reshape", f"{name}/groups", x, in_groups)
        of_rows = self._node("ReduceMean", f"{name}/rows", given, axes=[3], keepdims=1)
        mean = self._node("ReduceMean", f"{name}/mean", of_rows, axes=[2], keepdims=1)
        centred = self._node("Sub", f"{name}/centred", given, mean)
        normed = self._node(
            "InstanceNormalization", f"{name}/normed", centred, one, zero, epsilon=epsilon
        )
        return self._node("Reshape", f"{name}/channels", normed, as_before)

    def _conv(self, name: str, x: Value, patch: int = 1, copies: int = 1) -> Value:
        """Adds a convolution with same padding; with a patch, one of that kernel and stride.

        A dense layer of Flax, whose kernel is [in, out], is one of a single pixel. Of each feature
        there may be copies.
        """
        params = {kind: np.repeat(array, copies, -1) for kind, array in self.params[name].items()}
        kernel: Any = params["kernel"]
        kernel = kernel.reshape((1, 1, *kernel.shape)[-4:])
        side, features = kernel.shape[0], kernel.shape[3]
        pad = 0 if patch > 1 else side // 2
        inputs = [self._array(f"{name}/kernel", kernel.transpose(3, 2, 0, 1))]
        if "bias" in params:
            inputs.append(self._array(f"{name}/bias", params["bias"]))
        out = self._node(
            "Conv", name, x, *inputs, kernel_shape=[side] * 2, strides=[patch] * 2, pads=[pad] * 4
        )
        return Value(out, features, x.side // patch)

    def _up(self, name: str, x: Value, factor: int) -> Value:
        """Adds a transposed convolution whose kernel and stride are the factor."""
        params = self.params[name]
        # `UpConv` orders its channels by row, column and feature.
        blocks = np.asarray(params["blocks"]["kernel"]).reshape(x.channels, factor, factor, -1)
        bias = np.asarray(params["bias"]).ravel()
        inputs = [
            self._array(f"{name}/kernel", blocks.transpose(0, 3, 1, 2)),
            self._array(f"{name}/bias", bias),
        ]
        sides = [factor] * 2
        out = self._node("ConvTranspose", name, x, *inputs, kernel_shape=sides, strides=sides)
        return Value(out, len(bias), x.side * factor)

    def _join(self, name: str, *parts: Value) -> Value:
        joined = self._node("Concat", name, *parts, axis=1)
        return Value(joined, sum(part.channels for part in parts), parts[0].side)

    def _block(self, name: str, x: Value) -> Value:
        shortcut = x
        if f"{name}_shortcut" in self.params:
            shortcut = self._conv(f"{name}_shortcut", x)
        for i in range(2):
            x = self._norm(f"{name}_norm{i}", self._conv(f"{name}_conv{i}", x))
            if self.config.residual and i == 1:
                x = x._replace(name=self._node("Add", f"{name}_sum", x, shortcut))
            x = x._replace(name=self._node("Relu", f"{name}_relu{i}", x))
        return x

    def _gate(self, name: str, skip: Value, x: Value) -> Value:
        both = self._join(f"{name}_both", skip, x)
        hidden = self._node("Relu", f"{name}_relu", self._conv(f"{name}_in", both))
        # A weight for each channel, all equal: OpenCV 5.0 is wrong where one is spread over them.
        score = self._conv(f"{name}_out", skip._replace(name=hidden), copies=skip.channels)
        weight = self._node("Sigmoid", f"{name}_weight", score)
        return skip._replace(name=self._node("Mul", name, skip, weight))

    def _norm(self, name: str, x: Value) -> Value:
        if self.config.norm == "none":
            return x
        scale_C, bias_C = (np.asarray(self.params[name][part]) for part in ("scale", "bias"))
        if self.config.norm == "batch":
            stats = self.stats[name]
            arrays = {"scale": scale_C, "bias": bias_C, "mean": stats["mean"], "var": stats["var"]}
            inputs = [self._array(f"{name}/{part}", array) for part, array in arrays.items()]
            normed = self._node("BatchNormalization", name, x, *inputs, epsilon=_EPSILON["batch"])
            return x._replace(name=normed)
        groups = max(g for g in range(1, 9) if x.channels % g == 0)
        normed = self._norm_groups(name, x, groups, _EPSILON["group"])
        scale = self._array(f"{name}/scale", scale_C.reshape(1, -1, 1, 1))
        bias = self._array(f"{name}/bias", bias_C.reshape(1, -1, 1, 1))
        scaled = self._node("Mul", f"{name}/scaled", normed, scale)
        return x._replace(name=self._node("Add", name, scaled, bias))


def build_graph(exported: Exported) -> Any:
    """Builds the ONNX model: canvases in, probabilities of each output out by its name."""
    import onnx
    from onnx import TensorProto, helper

    model = exported.model
    size, outputs = model.config.data.size, model.config.model.outputs
    graph = Graph(float16=exported.float16)
    members = [model.variables]
    if model.members > 1:
        members = [_take(model.variables, i) for i in range(model.members)]
    channels = count_channels(model)
    image = _add_image(graph, channels, size)
    order = mirror_order(outputs)
    planes = []
    for i, variables in enumerate(members):
        for mirrored in (False, True) if model.tta else (False,):
            prefix = f"member{i}/" + ("mirrored/" if mirrored else "")
            network = _Network(
                graph,
                model.config.model,
                variables["params"],
                variables["batch_stats"],
                f"member{i}/",
                prefix,
            )
            given = _mirror(graph, prefix + "image", image) if mirrored else image
            logits = network.add(given)
            plane = logits._replace(name=graph.add("Sigmoid", prefix + "probability", logits.name))
            if mirrored:
                plane = _mirror(graph, prefix + "back", plane)
                if order != tuple(range(len(outputs))):
                    places = graph.array("mirror/order", np.array(order))
                    swapped = graph.add("Gather", prefix + "order", plane.name, places, axis=1)
                    plane = plane._replace(name=swapped)
            planes.append(plane.name)
    mean = _mean(graph, planes)
    for i, name in enumerate(outputs):
        graph.add("Gather", name, mean, graph.array(f"output/{i}", np.array(i)), axis=1)
    canvas_shape: list[str | int | None] = ["batch", size, size]
    if channels > 1:
        canvas_shape.append(channels)
    proto = helper.make_graph(
        graph.nodes,
        "jaxlung",
        [helper.make_tensor_value_info(CANVAS, TensorProto.UINT8, canvas_shape)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size, size])
            for name in outputs
        ],
        list(graph.arrays.values()),
    )
    whole = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
        producer_name="jaxlung",
        producer_version=__version__,
        doc_string=f"{exported.about['notice']} jaxlung's docs/export.md says how to use it.",
    )
    onnx.helper.set_model_props(
        whole,
        {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in exported.about.items()
        },
    )
    return whole


def _add_image(graph: Graph, channels: int, size: int) -> Value:
    """Adds `preprocess.normalize`: float32 in [0, 1], with channels where ONNX has them."""
    from onnx import TensorProto

    grey = graph.add("Cast", "image/grey", CANVAS, to=TensorProto.FLOAT)
    share = graph.add("Div", "image/share", grey, graph.array("image/255", np.float32(255)))
    if channels == 1:
        image = graph.add("Unsqueeze", "image", share, graph.array("image/axis", np.array([1])))
    else:
        image = graph.add("Transpose", "image", share, perm=[0, 3, 1, 2])
    return Value(image, channels, size)


def _mirror(graph: Graph, name: str, x: Value) -> Value:
    columns = graph.array("mirror/columns", np.arange(x.side)[::-1])
    return x._replace(name=graph.add("Gather", name, x.name, columns, axis=3))


def _mean(graph: Graph, planes: list[str]) -> str:
    """Adds the mean of planes; by sums, as OpenCV 5.0's Mean of more than two is wrong."""
    total, *others = planes
    for i, other in enumerate(others):
        total = graph.add("Add", f"probability/sum{i}", total, other)
    if not others:
        return total
    count = graph.array("probability/count", np.float32(len(planes)))
    return graph.add("Div", "probability/mean", total, count)


def _take(variables: Any, member: int) -> Any:
    import jax

    return jax.tree.map(lambda stacked: np.asarray(stacked)[member], variables)
