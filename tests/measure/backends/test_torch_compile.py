from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_networks import patterns, small_net
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor import config

from bnas.errors import MeasureError
from bnas.measure import HwConfig
from bnas.measure.backends import torch_compile

EXAMPLE = torch.zeros(1, 3, 16, 16)
HW = HwConfig(backend="torch_compile", precision="f32", threads=1)


def test_many_networks_of_one_class_are_compiled_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those beyond the eighth, at which torch.compile gives up on a function."""
    monkeypatch.setattr(torch_compile, "COMPILER", "eager")
    counters.clear()
    nets = [small_net(width) for width in range(8, 28, 2)]
    runners = [torch_compile.prepare(net, HW, EXAMPLE) for net in nets]
    images = patterns(3)
    for net, runner in zip(nets, runners, strict=True):
        runner()
        with torch.no_grad():
            torch.testing.assert_close(runner.predict(images), net(images), atol=1e-4, rtol=1e-4)
    assert counters["stats"]["unique_graphs"] == len(nets) == 10


def test_a_network_that_is_not_one_graph_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.sum() > 0:
                return x
            return -x

    monkeypatch.setattr(torch_compile, "COMPILER", "eager")
    with pytest.raises(
        MeasureError, match=r"cannot compile this network: Data-dependent .*at: if x\.sum\(\) > 0"
    ):
        torch_compile.prepare(Branches().eval(), HW, EXAMPLE)
    with pytest.raises(MeasureError, match="training mode"):
        torch_compile.prepare(small_net().train(), HW, EXAMPLE)
    with pytest.raises(MeasureError, match=r"runs torch modules, got the file net\.xml"):
        torch_compile.prepare(Path("net.xml"), HW, EXAMPLE)


def test_a_missing_compiler_is_said() -> None:
    with (
        config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}),
        pytest.raises(MeasureError, match=r"needs a C\+\+ compiler .*apt-get install g\+\+"),
    ):
        torch_compile.prepare(small_net(), HW, EXAMPLE)
