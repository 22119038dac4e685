"""Makes a plan of a U-Net: the calls of engine.c, one after the other, and the weights.

Everything is decided here: where each tensor lies in the engine's memory, its strides, and the
order of the weights. The page only makes the calls. Places and strides count float32.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxlung.config import ModelConfig
from jaxlung.errors import InputError

LANES = 8  # features that the engine computes at once: channels of results are padded to them
STACK = 2**16  # bytes at the beginning of the memory that tools/build_engine.py leaves to C
MOST_BYTES = 2**30  # of the memory: phones give a page little more
_EPSILON = 1e-5  # of flax's BatchNorm

Step = list[str | int]  # an operation of engine.c and its arguments


class Plan(NamedTuple):
    """A network for the page."""

    steps: list[Step]
    image: int  # byte of the canvas, uint8 [S, S]
    logits: int  # place of float32 [S, S, pad(outputs)]
    bytes: int  # of the memory, without the weights of further members
    kernels: np.ndarray  # float32 [members, K]; they begin the memory, behind the stack
    vectors: np.ndarray  # float32 [members, V], biases and the like; they follow


class _Place(NamedTuple):
    """A place that is known once all areas are."""

    area: str  # "kernels", "vectors" or "tensors"
    offset: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A tensor [height, width, channels] within the memory."""

    start: int  # of the first pixel, in the area of tensors
    height: int
    width: int
    channels: int  # without padding
    row: int  # from a row to the next
    pixel: int
    parts: int = 1  # tensors side by side in its channels, each with its own padding

    @property
    def read(self) -> int:
        """Channels that a convolution reads: with the padding between parts."""
        return self.channels if self.parts == 1 else self.pixel

    def at(self, row: int = 0, column: int = 0) -> _Place:
        """Returns the place of a pixel; (-1, -1) is the border's first one."""
        return _Place("tensors", self.start + row * self.row + column * self.pixel)

    def part(self, first: int, channels: int) -> "_Tensor":
        return dataclasses.replace(self, start=self.start + first, channels=channels, parts=1)


def pad(channels: int) -> int:
    """Returns the least multiple of LANES that is not below."""
    return -(-channels // LANES) * LANES


def make_plan(model: ModelConfig, members: Sequence[Any], size: int) -> Plan:
    """Plans a network.

    Args:
        model: its settings.
        members: what `UNet.apply` takes, of each member of an ensemble.
        size: S, the canvas's side.

    Raises:
        InputError: an option that the engine does not have, or more memory than a page gets.
    """
    for option in ("attention", "residual"):
        if getattr(model, option):
            raise InputError(
                f"model.{option} is on, which the engine of a page does not have; export it to "
                f"another format"
            )
    plans = [_Planner(model, variables, size).plan() for variables in members]
    kernels, vectors = (
        np.stack([getattr(plan, name)[0] for plan in plans]) for name in ("kernels", "vectors")
    )
    needed = plans[0].bytes + kernels[1:].nbytes + vectors[1:].nbytes
    if needed > MOST_BYTES:
        most = MOST_BYTES >> 20
        raise InputError(
            f"the network takes {needed >> 20} MiB of memory on a page, where {most} are to "
            f"be had; export it to another format"
        )
    return plans[0]._replace(kernels=kernels, vectors=vectors)


class _Planner:
    """Plans one member, in the order of `UNet.__call__`."""

    def __init__(self, model: ModelConfig, variables: Mapping[str, Any], size: int):
        self.model, self.size = model, size
        self.params = variables["params"]
        self.statistics = variables.get("batch_stats") or {}
        self.steps: list[tuple[str | int | _Place, ...]] = []
        self.kernels: list[np.ndarray] = []
        self.vectors: list[np.ndarray] = []
        self.tensors = 0  # float32 in that area

    def plan(self) -> Plan:
        model, size = self.model, self.size
        x = self._tensor(size, 1, pixel=1)  # the canvas's grey
        self._call("normalize", x.at(), size, size, x.row, int(model.standardize))
        if model.patch > 1:
            x = self._stem(x)
        skips = []
        for level in range(model.depth):
            features = model.width * 2**level
            both = self._tensor(x.height, 2 * features, parts=2)
            skip = both.part(0, features)
            self._block(x, skip, f"encoder{level}")
            skips.append(both)
            x = self._tensor(x.height // 2, features)
            self._call(
                *("pool", skip.at(), x.at(), x.height, x.width, pad(features)),
                *(skip.row, skip.pixel, x.row, x.pixel),
            )
        deepest = self._tensor(x.height, model.width * 2**model.depth)
        self._block(x, deepest, "bottleneck")
        x = deepest
        for level in reversed(range(model.depth)):
            features, both = model.width * 2**level, skips[level]
            self._up(x, both.part(pad(features), features), f"up{level}", 2)
            x = self._tensor(both.height, features)
            self._block(both, x, f"decoder{level}")
        logits = self._tensor(size, max(len(model.outputs), 1))  # (): the lung
        if model.patch > 1:
            self._up(x, logits, "head", model.patch)
        else:
            head = self.params["head"]
            self._convolve(x, logits, head["kernel"], self._vector(head["bias"], logits.channels))
        return self._resolve(logits)

    def _resolve(self, logits: _Tensor) -> Plan:
        kernels, vectors = np.concatenate(self.kernels), np.concatenate(self.vectors)
        start = {"kernels": STACK // 4}
        start["vectors"] = start["kernels"] + kernels.size
        start["tensors"] = start["vectors"] + vectors.size

        def place(value: str | int | _Place) -> str | int:
            return start[value.area] + value.offset if isinstance(value, _Place) else value

        image = 4 * (start["tensors"] + self.tensors)
        return Plan(
            [[place(value) for value in step] for step in self.steps],
            image=image,
            logits=start["tensors"] + logits.start,
            bytes=image + self.size**2,
            kernels=kernels[None],
            vectors=vectors[None],
        )

    def _call(self, *step: str | int | _Place) -> None:
        self.steps.append(step)

    def _tensor(self, side: int, channels: int, *, parts: int = 1, pixel: int = 0) -> _Tensor:
        """Makes room for a square tensor with a border of one pixel."""
        pixel = pixel or parts * pad(channels // parts)
        row = (side + 2) * pixel
        tensor = _Tensor(self.tensors + row + pixel, side, side, channels, row, pixel, parts)
        self.tensors += pad((side + 2) * row)
        return tensor

    def _vector(self, values: Any, channels: int) -> _Place:
        """Keeps a value for each channel, padded with zeros."""
        place = _Place("vectors", sum(vector.size for vector in self.vectors))
        padded = np.zeros(pad(channels), np.float32)
        padded[:channels] = np.asarray(values, np.float32).ravel()
        self.vectors.append(padded)
        return place

    def _kernel(self, kernel: Any, x: _Tensor) -> _Place:
        """Keeps a kernel [side, side, C, F] as [F / LANES, side, side, C, LANES], padded."""
        place = _Place("kernels", sum(one.size for one in self.kernels))
        side, _, channels, features = kernel.shape
        each = channels // x.parts
        padded = np.zeros((side, side, x.parts, x.read // x.parts, pad(features)), np.float32)
        padded[:, :, :, :each, :features] = np.reshape(kernel, (side, side, x.parts, each, -1))
        blocks = padded.reshape(side, side, x.read, -1, LANES).transpose(3, 0, 1, 2, 4)
        self.kernels.append(blocks.ravel())
        return place

    def _convolve(
        self, x: _Tensor, y: _Tensor, kernel: Any, bias: _Place | int = 0, stride: int = 1
    ) -> None:
        """Convolves; a kernel of 3 reads the border of x."""
        side = kernel.shape[0]
        start = x.at(-1, -1) if side == 3 else x.at()
        place = self._kernel(kernel, x)
        self._call(
            *("convolve", start, place, bias, y.at(), y.height, y.width),
            *(x.read, pad(y.channels), side, stride * x.row, stride * x.pixel),
            *(x.row, x.pixel, y.row, y.pixel),
        )

    def _stem(self, image: _Tensor) -> _Tensor:
        stem, patch = self.params["stem"], self.model.patch
        x = self._tensor(self.size // patch, self.model.width)
        bias = self._vector(stem["bias"], x.channels)
        self._convolve(image, x, stem["kernel"], bias, stride=patch)
        return x

    def _up(self, x: _Tensor, y: _Tensor, name: str, factor: int) -> None:
        """Plans a transposed convolution of kernel and stride `factor`: one for each tap."""
        up = self.params[name]
        kernel = np.asarray(up["blocks"]["kernel"])
        kernel_CxfxfxF = kernel.reshape(kernel.shape[0], factor, factor, -1)
        bias = self._vector(up["bias"], y.channels)
        for row in range(factor):
            for column in range(factor):
                every = dataclasses.replace(
                    y,
                    start=y.start + row * y.row + column * y.pixel,
                    height=x.height,
                    width=x.width,
                    row=factor * y.row,
                    pixel=factor * y.pixel,
                )
                self._convolve(x, every, kernel_CxfxfxF[None, None, :, row, column], bias)

    def _block(self, x: _Tensor, y: _Tensor, name: str) -> None:
        middle = self._tensor(x.height, y.channels)
        for i, (source, target) in enumerate(((x, middle), (middle, y))):
            conv = self.params[f"{name}_conv{i}"]
            self._convolve(source, target, conv["kernel"])
            self._norm(target, f"{name}_norm{i}", conv.get("bias"))

    def _norm(self, x: _Tensor, name: str, bias: Any) -> None:
        """Plans a norm and the ReLU behind it, in place."""
        channels = x.channels
        shape = x.height, x.width
        if self.model.norm == "group":
            groups = max(g for g in range(1, 9) if channels % g == 0)
            scale, shift = (
                self._vector(self.params[name][key], channels) for key in ("scale", "bias")
            )
            factor, offset = (self._room(channels) for _ in range(2))
            self._call(
                *("group_statistics", x.at(), scale, shift, factor, offset, *shape),
                *(channels, groups, x.row, x.pixel),
            )
        else:
            factor, offset = (self._vector(v, channels) for v in self._line(name, channels, bias))
        self._call(
            *("scale_and_relu", x.at(), factor, offset, *shape, pad(channels), x.row, x.pixel)
        )

    def _room(self, channels: int) -> _Place:
        self.tensors += pad(channels)
        return _Place("tensors", self.tensors - pad(channels))

    def _line(self, name: str, channels: int, bias: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns factor and offset of a batch norm, or of a bias alone."""
        if self.model.norm == "none":
            return np.ones(channels), np.asarray(bias)
        scale, shift = (np.asarray(self.params[name][key], float) for key in ("scale", "bias"))
        mean, variance = (np.asarray(self.statistics[name][key], float) for key in ("mean", "var"))
        factor = scale / np.sqrt(variance + _EPSILON)
        return factor, shift - mean * factor
