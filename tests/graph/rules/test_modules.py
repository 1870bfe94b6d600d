"""Modules whose Python computes with its own sizes: small ones of torchvision's."""

from __future__ import annotations

from collections import OrderedDict

import torch
from nets import Net, attributes, checked, conv, facts, free, layers, weights
from torch import Tensor, nn
from torchvision.models.maxvit import RelativePositionalMultiHeadAttention
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2
from torchvision.models.video.mvit import MSBlockConfig, MultiscaleBlock
from torchvision.models.vision_transformer import VisionTransformer
from torchvision.ops import MultiScaleRoIAlign


def test_vision_transformer() -> None:
    vit = VisionTransformer(
        image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=3
    )
    nn.init.normal_(vit.heads.head.weight)  # zeros when fresh
    graph = checked(vit, (torch.randn(1, 3, 8, 8),))
    path = "encoder.layers.encoder_layer_{}"
    assert free(graph) == {
        "conv_proj": "2x4",
        path.format(0) + ".mlp.0": "12",
        path.format(1) + ".mlp.0": "12",
    }
    assert weights(graph, "class_token", "encoder.pos_embedding") == {
        "class_token": ["1", "1", "conv_proj:2x4"],
        "encoder.pos_embedding": ["1", "5", "conv_proj:2x4"],
    }
    assert attributes(graph)["hidden_dim"] == "conv_proj:2x4"
    assert attributes(graph)[path.format(0) + ".self_attention.num_heads"] == "conv_proj:2"
    assert graph.stages == {"encoder.layers": (path.format(0), path.format(1))}


def test_shifted_windows() -> None:
    """Swin's attention divides its width by the heads, and comes out as wide as it went in."""
    for kind, bias in ((ShiftedWindowAttention, True), (ShiftedWindowAttentionV2, False)):
        attention = kind(8, [4, 4], [2, 2], 2)
        graph = facts(
            lambda m, x: m.b(m.at(m.a(x).permute(0, 2, 3, 1))), a=conv(3, 8), at=attention, b=nn.Linear(8, 4)
        )
        assert free(graph)["a"] == "2x4"
        assert layers(graph)["at.qkv"] == "a:2x4 → a:2x4 + a:2x4 + a:2x4"
        assert attributes(graph)["at.num_heads"] in ("a:2", "a:2x4 / 4")
        if bias:
            assert weights(graph, "at.relative_position_bias_table") == {
                "at.relative_position_bias_table": ["49", "a:2"]
            }


def test_relative_positions_of_maxvit() -> None:
    graph = facts(
        lambda m, x: m.b(m.at(m.a(x).flatten(2).transpose(1, 2)[:, None])),
        1, 3, 4, 4, a=conv(3, 8), at=RelativePositionalMultiHeadAttention(8, 4, 16), b=nn.Linear(8, 4),
    )  # fmt: skip
    assert free(graph) == {"a": "2x4", "at.merge": "8"}
    assert attributes(graph)["at.n_heads"] in ("a:2", "a:2x4 / 4")
    assert weights(graph, "at.relative_position_bias_table") == {
        "at.relative_position_bias_table": ["49", "a:2"]
    }


def test_multiscale_attention() -> None:
    config = MSBlockConfig(
        num_heads=2, input_channels=8, output_channels=8, kernel_q=[3, 3, 3], kernel_kv=[3, 3, 3],
        stride_q=[1, 1, 1], stride_kv=[1, 2, 2],
    )  # fmt: skip
    block = MultiscaleBlock([2, 4, 4], config, True, False, True, True)
    graph = checked(
        Net(
            lambda m, x: m.b(m.block(m.a(x), (2, 4, 4))[0]), a=nn.Linear(6, 8), block=block, b=nn.Linear(8, 4)
        ),
        (torch.randn(1, 33, 6),),
    )
    assert free(graph)["a"] == "8"
    assert free(graph)["block.attn.qkv"] == "2x4"
    assert attributes(graph)["block.attn.num_heads"] in ("block.attn.qkv:2", "block.attn.qkv:2x4 / 4")
    assert attributes(graph)["block.attn.output_dim"] == "block.attn.qkv:2x4"


def test_regions_of_several_maps() -> None:
    """Regions are pooled from the map that fits their size: all maps have the same channels."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        maps = OrderedDict(large=m.a(x), small=m.b(x[:, :, ::2, ::2]))
        boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0], [1.0, 1.0, 7.0, 5.0]])]
        return m.c(m.pool(maps, boxes, [(8, 8)]))

    graph = facts(
        forward, 1, 3, 8, 8,
        a=conv(3, 8), b=conv(3, 8), c=conv(8, 4), pool=MultiScaleRoIAlign(["large", "small"], 3, 2),
    )  # fmt: skip
    assert free(graph) == {"a": "8"}
    assert layers(graph) == {"a": "3 → a:8", "b": "3 → a:8", "c": "a:8 → c:4"}
