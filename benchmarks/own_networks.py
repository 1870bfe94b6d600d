"""Small networks of other kinds than torchvision's, each with its example inputs: rows of the coverage table."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TextClassifier(nn.Module):
    """Token ids and a padding mask, by keyword, through PyTorch's own transformer encoder."""

    def __init__(self, vocabulary: int = 1000, width: int = 128, depth: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(1, 64, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 8, 4 * width, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, 10)

    def forward(self, ids: Tensor, padding: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions[:, : ids.shape[1]]
        x = self.norm(self.encoder(x, src_key_padding_mask=padding))
        return self.classifier(x.mean(1))


class OwnAttention(nn.Module):
    """Attention written out: one projection to queries, keys and values, and einsum."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_all = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = self.to_all(x).reshape(batch, length, 3, self.heads, -1).unbind(2)
        weights = (torch.einsum("bihd,bjhd->bhij", q, k) * q.shape[-1] ** -0.5).softmax(-1)
        return self.out(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2))


class DecoderBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = OwnAttention(width, 4)
        self.gate, self.up = nn.Linear(width, 4 * width), nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class LanguageModel(nn.Module):
    """Decoder blocks with gated MLPs; the embedding is also the last layer's weight."""

    def __init__(self, vocabulary: int = 500, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.blocks = nn.Sequential(*(DecoderBlock(width) for _ in range(depth)))
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.blocks(self.tokens(ids)))


class MixerBlock(nn.Module):
    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.across = nn.Sequential(nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens))
        self.along = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.along(self.norm2(x))


class Mixer(nn.Module):
    """MLP-Mixer (Tolstikhin et al. 2021): linear layers along tokens and along channels."""

    def __init__(self, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.blocks = nn.Sequential(*(MixerBlock(16, width) for _ in range(depth)))
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.patches(images).flatten(2).transpose(1, 2)).mean(1))


class AudioNet(nn.Module):
    """One-dimensional convolutions with group norms over a waveform."""

    def __init__(self) -> None:
        super().__init__()
        widths = (32, 64, 128)
        layers: list[nn.Module] = [nn.Conv1d(1, widths[0], 9, 4, 4)]
        for before, after in pairwise(widths):
            layers += [nn.GroupNorm(8, before), nn.PReLU(before), nn.Conv1d(before, after, 5, 4, 2)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, waves: Tensor) -> Tensor:
        return self.head(self.body(waves).mean(-1))


class UNet(nn.Module):
    """Down, up by transposed convolutions, with concatenated skips; returns a dict."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()

        def double(inputs: int, outputs: int) -> nn.Sequential:
            convs = [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.Conv2d(outputs, outputs, 3, 1, 1)]
            return nn.Sequential(
                *(part for conv in convs for part in (conv, nn.GroupNorm(4, outputs), nn.SiLU()))
            )

        self.down1, self.down2, self.middle = (
            double(3, width),
            double(width, 2 * width),
            double(2 * width, 4 * width),
        )
        self.up2, self.up1 = (
            nn.ConvTranspose2d(4 * width, 2 * width, 2, 2),
            nn.ConvTranspose2d(2 * width, width, 2, 2),
        )
        self.join2, self.join1 = double(4 * width, 2 * width), double(2 * width, width)
        self.mask = nn.Conv2d(width, 2, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        a = self.down1(images)
        b = self.down2(F.max_pool2d(a, 2))
        x = self.up2(self.middle(F.max_pool2d(b, 2)))
        x = self.up1(self.join2(torch.cat([x, b], 1)))
        return {"masks": self.mask(self.join1(torch.cat([x, a], 1)))}


class TwoTowers(nn.Module):
    """An image and a row of numbers, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
        )
        self.numbers = nn.Sequential(nn.Linear(20, 48), nn.BatchNorm1d(48), nn.ReLU())
        self.joint = nn.Sequential(nn.Linear(4 * 32 + 48, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.joint(
            torch.cat([self.image(inputs["image"]).flatten(1), self.numbers(inputs["numbers"])], 1)
        )


class SpeechNet(nn.Module):
    """Convolutions before a recurrent layer, whose own width has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(
            nn.Conv1d(40, 64, 5, 2, 2), nn.BatchNorm1d(64), nn.ReLU(), nn.Conv1d(64, 64, 3, 1, 1)
        )
        self.memory = nn.GRU(64, 96, batch_first=True, bidirectional=True)
        self.head = nn.Linear(192, 30)

    def forward(self, frames: Tensor) -> Tensor:
        return self.head(self.memory(self.front(frames).transpose(1, 2))[0])


def _ids(vocabulary: int) -> Tensor:
    return torch.arange(24).reshape(2, 12) * 7 % vocabulary


OWN: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "own: text classifier": lambda: (
        TextClassifier(),
        {"ids": _ids(1000), "padding": torch.arange(12).expand(2, 12) >= torch.tensor([[12], [9]])},
    ),
    "own: language model": lambda: (LanguageModel(), (_ids(500),)),
    "own: MLP-Mixer": lambda: (Mixer(), (torch.randn(2, 3, 32, 32),)),
    "own: waveform CNN": lambda: (AudioNet(), (torch.randn(2, 1, 1024),)),
    "own: U-Net": lambda: (UNet(), (torch.randn(2, 3, 32, 32),)),
    "own: two towers": lambda: (
        TwoTowers(),
        ({"image": torch.randn(2, 3, 16, 16), "numbers": torch.randn(2, 20)},),
    ),
    "own: convolutions and GRU": lambda: (SpeechNet(), (torch.randn(2, 40, 50),)),
}
