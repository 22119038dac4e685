"""The same U-Net in PyTorch, and MONAI's BasicUNet.

Modes: "eager" or "compile", each "-contiguous" or "-channels_last"; on a GPU with autocast.
"""

import contextlib
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.speed.peers.contender import Contender, Spec, example, groups_of


class Block(nn.Module):
    def __init__(self, channels: int, features: int):
        super().__init__()
        self.conv0 = nn.Conv2d(channels, features, 3, padding=1, bias=False)
        self.norm0 = nn.GroupNorm(groups_of(features), features, eps=1e-6)
        self.conv1 = nn.Conv2d(features, features, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(groups_of(features), features, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm0(self.conv0(x)))
        return functional.relu(self.norm1(self.conv1(x)))


class TorchUNet(nn.Module):
    """`jaxlung.model.UNet` with norm "group", on [B, 1, H, W]; tests/whole/test_benchmarks.py."""

    def __init__(self, width: int = 16, depth: int = 4, patch: int = 1):
        super().__init__()
        features = [width * 2**level for level in range(depth + 1)]
        self.stem = nn.Conv2d(1, width, 2, 2) if patch == 2 else nn.Identity()
        inputs = [width if patch == 2 else 1, *features[:-1]]
        self.encoder = nn.ModuleList(map(Block, inputs[:-1], features[:-1]))
        self.bottleneck = Block(inputs[-1], features[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * f, f, 2, 2) for f in features[:-1])
        self.decoder = nn.ModuleList(Block(2 * f, f) for f in features[:-1])
        head = nn.ConvTranspose2d(width, 1, 2, 2) if patch == 2 else nn.Conv2d(width, 1, 1)
        self.head: nn.Module = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((1, 2, 3), keepdim=True)
        variance = x.var((1, 2, 3), keepdim=True, unbiased=False)
        x = self.stem((x - mean) * torch.rsqrt(variance + 1e-6))
        skips = []
        for block in self.encoder:
            skips.append(block(x))
            x = functional.max_pool2d(skips[-1], 2)
        x = self.bottleneck(x)
        for level in reversed(range(len(skips))):
            x = self.decoder[level](torch.cat([skips[level], self.up[level](x)], 1))
        return self.head(x)


def dice_loss(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`jaxlung.losses.soft_dice_loss`, averaged over the batch."""
    probability, axes = torch.sigmoid(logits.float()), (1, 2, 3)
    both = (probability * mask).sum(axes)
    return (1 - (2 * both + 1) / (probability.sum(axes) + mask.sum(axes) + 1)).mean()


def build(spec: Spec, mode: str) -> Contender:
    method, layout = mode.split("-")
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    if spec.device == "gpu" and not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no GPU")
    device = torch.device("cuda" if spec.device == "gpu" else "cpu")
    if method == "monai":
        from monai.networks.nets import BasicUNet

        # Biases before norms, another first decoder and the lack of a standardisation stay.
        widths = [spec.width * 2**level for level in range(5)]
        network: Any = BasicUNet(
            2,
            1,
            1,
            (*widths, spec.width),
            act="relu",
            norm=("group", {"num_groups": groups_of(spec.width)}),
        )
    else:
        network = TorchUNet(spec.width, spec.depth, spec.patch)
    network = network.to(device).to(memory_format=memory)
    # A program for each batch size: one for all, PyTorch's default after the second, is slower.
    run = torch.compile(network, dynamic=False) if method == "compile" else network
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)

    def autocast() -> Any:
        if spec.dtype != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast(device.type, torch.bfloat16)

    def put(array_BxSxS: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array_BxSxS[:, None]).to(device).to(memory_format=memory)

    image, mask = (put(array) for array in example(spec))

    def train() -> float:
        network.train()
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            logits = run(image)
        loss = dice_loss(logits, mask)
        loss.backward()
        optimizer.step()
        return loss.item()

    def predict(image_BxSxS: np.ndarray) -> np.ndarray:
        network.eval()
        with torch.inference_mode(), autocast():
            return torch.sigmoid(run(put(image_BxSxS)).float())[:, 0].cpu().numpy()

    return Contender(
        train, predict, torch.cuda.max_memory_allocated if device.type == "cuda" else None
    )
