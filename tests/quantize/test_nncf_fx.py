from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import torch
from small_networks import patterns, small_net
from torch import Tensor, fx, nn
from torch._dynamo.utils import counters

from bnas.errors import ConfigError, ExportError
from bnas.export import OpenVinoIR, TorchExport, export, load
from bnas.export.torch_export import int8_kernels
from bnas.measure import HwConfig
from bnas.measure.backends import torch_compile
from bnas.plain import from_plain, to_plain
from bnas.quantize import QuantizeConfig, quantize
from bnas.quantize.nncf_fx import NncfPTQFx
from bnas.quantize.nncf_options import Ignored

EXAMPLE = torch.zeros(1, 3, 16, 16)
CONFIG = NncfPTQFx(samples=16)


def weights(graph: nn.Module) -> list[tuple[int, ...]]:
    """Shapes of the INT8 weights; zero points have one axis."""
    return sorted(
        tuple(own.shape) for own in graph.state_dict().values() if own.dtype == torch.int8 and own.ndim > 1
    )


def test_a_graph_with_int8_weights_that_gives_the_same_classes_for_any_number_of_images(
    capfd: pytest.CaptureFixture[str],
) -> None:
    net = small_net()
    before = copy.deepcopy(net.state_dict())
    quantized = quantize(net, CONFIG, [patterns(16)], EXAMPLE)
    assert (quantized.runtime, quantized.precision) == ("torch", "int8")
    graph = quantized.model
    assert isinstance(graph, fx.GraphModule)
    assert not any(part.training for part in graph.modules())
    assert weights(graph) == [(4, 16), (16, 1, 3, 3), (16, 3, 3, 3), (16, 16, 1, 1)]
    assert not [name for name, own in graph.state_dict().items() if own.is_floating_point() and own.ndim > 1]
    with torch.no_grad():
        for count in (1, 7, 64):
            images = patterns(count, seed=2)
            got, wanted = graph(images), net(images)
            assert torch.equal(got.argmax(1), wanted.argmax(1))
            assert 1e-4 < float((got - wanted).abs().max() / wanted.abs().max()) < 0.2
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_its_file_runs_without_the_network(tmp_path: Path) -> None:
    net, images = small_net(), patterns(8, seed=2)
    quantized = quantize(net, CONFIG, [patterns(16)], EXAMPLE)
    artefact = export(quantized, TorchExport(batch=None), tmp_path / "int8.pt2", EXAMPLE)
    assert artefact.precision == "int8"
    with torch.no_grad():
        torch.testing.assert_close(load(artefact.path)(images), quantized.model(images), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs g++")
def test_inductor_runs_it_in_int8() -> None:
    """Long: inductor compiles for half a minute."""
    graph = quantize(small_net(), CONFIG, [patterns(16)], EXAMPLE).model
    images = patterns(4, seed=2)
    with torch.no_grad():
        wanted = graph(images)
    int8_kernels()
    counters.clear()
    runner = torch_compile.prepare(
        graph, HwConfig(backend="torch_compile", precision="f32", threads=1), EXAMPLE
    )
    got = runner.predict(images)
    assert counters["inductor"]["qconv_unary_lower_count"] == 3  # all three convolutions
    torch.testing.assert_close(got, wanted, atol=0.02 * float(wanted.abs().max()), rtol=0)


@pytest.mark.parametrize(
    ("ignored", "left"),
    [
        (Ignored(names=("block",)), [(4, 16), (16, 3, 3, 3)]),
        (Ignored(types=("Linear",)), [(16, 1, 3, 3), (16, 3, 3, 3), (16, 16, 1, 1)]),
        (Ignored(patterns=(r"block\.[03]", "stem")), [(4, 16)]),
        (
            Ignored(scopes=("SmallNet/Sequential[head]/NNCFLinear[3]/linear_0",)),
            [(16, 1, 3, 3), (16, 3, 3, 3), (16, 16, 1, 1)],
        ),
    ],
)
def test_what_is_ignored_stays_fp32(ignored: Ignored, left: list[tuple[int, ...]]) -> None:
    config = NncfPTQFx(samples=4, ignored=ignored)
    assert weights(quantize(small_net(), config, [patterns(4)], EXAMPLE).model) == left


def test_what_is_no_graph_is_said() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportError, match=r"torch\.export cannot make one graph of this network"):
        quantize(Branches().eval(), CONFIG, [patterns(4)], EXAMPLE)
    with pytest.raises(ExportError, match="training mode"):
        quantize(small_net().train(), CONFIG, [patterns(4)], EXAMPLE)
    with pytest.raises(ExportError, match="no calibration images"):
        quantize(small_net(), CONFIG, [], EXAMPLE)


def test_openvino_does_not_take_it(tmp_path: Path) -> None:
    quantized = quantize(small_net(), NncfPTQFx(samples=2), [patterns(2)], EXAMPLE)
    with pytest.raises(ExportError, match="torch"):
        export(quantized, OpenVinoIR(), tmp_path / "int8.xml", EXAMPLE)


def test_options() -> None:
    for option, value in (("bn_adaptation_samples", 5), ("target_device", "cpu_spr")):
        with pytest.raises(ConfigError, match=rf"quantize\.{option}: .*quantize=nncf_ptq"):
            from_plain(QuantizeConfig, {"kind": "nncf_ptq_fx", option: value}, "quantize")
    assert from_plain(QuantizeConfig, to_plain(CONFIG)) == CONFIG
