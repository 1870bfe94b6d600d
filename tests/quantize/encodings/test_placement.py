"""Which tensors have encodings, by networks whose every tensor is named here."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnas.export.onnx import to_onnx
from bnas.quantize.encodings import Placement, place
from bnas.quantize.encodings.placement import module_of


def placed(module: nn.Module, *shape: int) -> Placement:
    module.eval()
    return place(to_onnx(module, torch.rand(1, *(shape or (3, 8, 8)))), module)


def kinds(placement: Placement) -> list[str]:
    """The operations whose outputs have encodings; "x" is the input or what has no operation in its name."""
    return [
        name.rpartition("/")[2].removesuffix("_output_0") if "/" in name else "x"
        for name in placement.activations
    ]


class Residual(nn.Module):
    """Two pairs that are one operation, and a convolution that two things read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        y = self.second(x)
        return self.relu(x + y).mean((2, 3)) + y.amax((2, 3))


def test_what_the_next_operation_makes_in_one_go_has_no_encoding() -> None:
    found = placed(Residual())
    assert kinds(found) == ["x", "Relu", "Conv", "Relu", "ReduceMean", "x"]
    assert list(found.moved.values()) == ["/second/Conv_output_0"]  # its largest numbers
    assert found.grid_of("/first/Conv_output_0") == "/relu/Relu_output_0"
    assert found.grid_of("/Add_output_0") == "/relu_1/Relu_output_0"


def test_a_module_used_twice_has_an_encoding_for_each_use() -> None:
    found = placed(Residual())
    assert {"/relu/Relu_output_0", "/relu_1/Relu_output_0"} < set(found.activations)
    assert "relu" not in found.modules  # which could have one only
    assert set(found.modules) == {"first", "second"}


def test_relu6_and_a_linear_layers_relu_belong_to_what_is_before() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Flatten(), nn.Linear(256, 5), nn.ReLU())
    found = placed(net)
    assert kinds(found) == ["x", "Clip", "x"]
    assert [(layer.weight, layer.bias) for layer in found.layers] == [
        ("0.weight", "0.bias"),
        ("3.weight", "3.bias"),
    ]
    assert found.modules == {
        "0": {"input": "images"},
        "1": {"output": "/1/Clip_output_0"},
        "4": {"output": found.activations[-1]},
    }


def test_softmax_has_no_encoding_nor_has_what_it_is_moved_to() -> None:
    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).flatten(2).transpose(1, 2).softmax(2)[:, :10]

    found = placed(Scores())
    assert kinds(found) == ["x", "Conv"]
    assert set(found.moved.values()) == {"/conv/Conv_output_0"}
    assert not any("Softmax" in name or "Slice" in name for name in (*found.moved, *found.activations))


def test_what_is_concatenated_shares_the_encoding_of_the_whole_unless_it_is_read_elsewhere() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3, 4, 1) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            b = self.b(x)
            whole = torch.cat([self.a(x).transpose(2, 3), b.transpose(2, 3), self.c(x)], 1)
            return whole.sum((2, 3)) * b.sum()

    found = placed(Joined())
    whole = next(name for name in found.activations if "Concat" in name)
    assert found.shared == {"/a/Conv_output_0": whole, "/c/Conv_output_0": whole}


def test_average_pooling_and_a_relu_of_its_own_keep_the_grid() -> None:
    found = placed(nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(2), nn.Sigmoid(), nn.ReLU(), nn.Flatten()))
    assert kinds(found) == ["x", "Conv", "AveragePool", "Sigmoid", "Relu"]
    assert found.shared == {
        "/1/AveragePool_output_0": "/0/Conv_output_0", "/3/Relu_output_0": "/2/Sigmoid_output_0"
    }  # fmt: skip


def test_a_linear_layer_on_three_axes_is_one_operation_with_its_bias() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 6, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.down(torch.relu(self.up(x)))

    found = placed(Tokens(), 5, 6)
    assert kinds(found) == ["x", "Relu", "MatMul", "x"]
    first, second = found.layers
    assert first.bias == "up.bias"
    assert second.bias is None
    assert found.grid_of(first.output) == "/Relu_output_0"


def test_names_of_modules_inside_sequences() -> None:
    known = {"layer1.0.down.0", "layer1.0.relu", "a_1", "a"}
    assert module_of("/layer1/layer1.0/down/down.0", known) == "layer1.0.down.0"
    assert module_of("/layer1/layer1.0/relu_2", known) == "layer1.0.relu"
    assert module_of("/a_1", known) == "a_1"  # a module's own name
    assert module_of("/layer1/layer1.0", known) is None
    assert module_of("", known) is None
