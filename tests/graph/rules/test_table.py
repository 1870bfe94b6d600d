"""One name for all forms of a function, and where rules are entered."""

from __future__ import annotations

import pytest
import torch
from nets import Net, conv, free
from torch import Tensor, nn
from torch.nn import functional as F

from bnas.graph import trace
from bnas.graph.rules import (
    AFTER_RULES,
    FUNCTION_RULES,
    MODULE_RULES,
    after_rule,
    function_name,
    module_rule,
    rule,
)
from bnas.graph.state import Call, Trace


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.add, "add"), (Tensor.add_, "add"), (Tensor.__iadd__, "add"), (Tensor.__radd__, "add"),
        (Tensor.__add__, "add"), (Tensor.__rsub__, "sub"), (Tensor.__rpow__, "pow"),
        (Tensor.__rdiv__, "div"), (Tensor.__imul__, "mul"), (Tensor.__invert__, "invert"),
        (Tensor.__getitem__, "getitem"), (Tensor.__setitem__, "setitem"), (Tensor.T.__get__, "T"),
        (Tensor.shape.__get__, "shape"), (torch._weight_norm, "_weight_norm"), (F.relu_, "relu"),
    ],
)  # fmt: skip
def test_function_name(function: object, name: str) -> None:
    assert function_name(function) == name


def test_a_rule_of_your_own() -> None:
    """As the package says: torch.sinc keeps the channels."""
    net = Net(lambda m, x: m.b(torch.sinc(m.a(x))), a=conv(3, 8), b=conv(8, 4))
    images = (torch.randn(1, 3, 8, 8),)
    assert free(trace(net, images)) == {}
    try:

        @rule("sinc")
        def sinc(trace: Trace, call: Call) -> None:
            trace.mark(call.out, trace.labels(call.tensors[0]))

        assert free(trace(net, images)) == {"a": "8"}
    finally:
        FUNCTION_RULES.pop("sinc", None)


class Strange(nn.Module):
    """Uses a function without a rule."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sinc(x)


def test_a_rule_for_a_module() -> None:
    net = Net(lambda m, x: m.b(m.strange(m.a(x))), a=conv(3, 8), strange=Strange(), b=conv(8, 4))
    images = (torch.randn(1, 3, 8, 8),)
    seen: list[str] = []
    try:

        @module_rule(Strange)
        def whole(trace: Trace, path: str, module: nn.Module, call: Call) -> None:
            trace.mark(call.out, trace.labels(call.args[0]))

        @after_rule(nn.Conv2d)
        def after(trace: Trace, path: str, module: nn.Module, call: Call) -> None:
            seen.append(path)

        assert free(trace(net, images)) == {"a": "8"}
        assert seen == ["a", "b"]
        assert "forward" not in vars(net.strange)
    finally:
        MODULE_RULES.pop(Strange, None)
        AFTER_RULES.pop(nn.Conv2d, None)
