from __future__ import annotations

import copy
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import patterns, small_net
from torch import Tensor, nn

from bnas.errors import ConfigError, ExportError, MissingPackageError
from bnas.export import OpenVinoIR, export, verify
from bnas.plain import from_plain, to_plain
from bnas.quantize import QuantizeConfig, quantize
from bnas.quantize.nncf_extension import arithmetic
from bnas.quantize.nncf_options import Ignored
from bnas.quantize.nncf_torch import NncfPTQTorch, quantized_module, structure_of, to_openvino, with_structure

EXAMPLE = torch.zeros(1, 3, 16, 16)
CONFIG = NncfPTQTorch(samples=16)


def weights(model: Any) -> list[tuple[int, ...]]:
    """Shapes of the INT8 weights, as they are in the file."""
    return sorted(
        tuple(op.shape)
        for op in model.get_ops()
        if op.get_type_name() == "Constant" and op.get_element_type().get_type_name() == "i8"
    )


def test_int8_weights_and_activations_and_the_same_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")  # no compiler is needed
    net = small_net()
    before = copy.deepcopy(net.state_dict())
    quantized = quantize(net, CONFIG, [patterns(16), patterns(16, seed=1)], EXAMPLE)
    assert quantized.runtime == "openvino"
    assert Counter(op.get_type_name() for op in quantized.model.get_ops())["FakeQuantize"] >= 4
    assert weights(quantized.model) == [(4, 16), (16, 1, 3, 3), (16, 3, 3, 3), (16, 16, 1, 1)]
    artefact = export(quantized, OpenVinoIR(), tmp_path / "int8.xml", EXAMPLE)
    assert artefact.precision == "int8"
    checked = verify(artefact, net, [patterns(64, seed=2)], OpenVinoIR(min_agreement_percent=90))
    assert checked.largest_difference is not None
    assert 1e-4 < checked.largest_difference < 0.2
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_what_openvino_computes_is_what_the_module_with_quantizers_does() -> None:
    module = quantized_module(small_net(), CONFIG, [patterns(16)], EXAMPLE)
    images = patterns(8, seed=3)
    from bnas.export.openvino_runtime import compile_network

    compiled = compile_network(to_openvino(module, EXAMPLE).model)
    with torch.no_grad(), arithmetic("cpu", "never"):
        wanted = module(images)
        assert (wanted - small_net()(images)).abs().max() > 1e-4  # it is quantized
    got = torch.cat([torch.from_numpy(compiled(image[None].numpy())[0].copy()) for image in images])
    torch.testing.assert_close(got, wanted, atol=0.02 * float(wanted.abs().max()), rtol=0)


def test_the_structure_and_the_state_make_the_same_network_again(tmp_path: Path) -> None:
    module, images = quantized_module(small_net(), CONFIG, [patterns(16)], EXAMPLE), patterns(8, seed=3)
    torch.save({"structure": structure_of(module), "model": module.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again = with_structure(small_net(seed=5), state["structure"])
    again.load_state_dict(state["model"])
    with torch.no_grad(), arithmetic("cpu", "never"):
        assert torch.equal(again(images), module(images))


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
    config = NncfPTQTorch(samples=4, ignored=ignored)
    assert weights(quantize(small_net(), config, [patterns(4)], EXAMPLE).model) == left


def test_what_names_nothing_is_said() -> None:
    config = NncfPTQTorch(samples=4, ignored=Ignored(names=("stern",)))
    with pytest.raises(
        ExportError, match=r"quantize\.ignored\.names: 'stern' names no operation.*did you mean 'stem'"
    ):
        quantize(small_net(), config, [patterns(4)], EXAMPLE)


def test_batch_norms_are_adapted_to_what_they_get_from_quantized_layers() -> None:
    net, images = small_net(), patterns(32)
    for norm in norms(net):
        assert norm.running_mean is not None
        norm.running_mean.add_(1.0)

    def off(module: nn.Module) -> float:
        """How far, at most, a norm's mean is from the mean of what it reads."""
        read: list[Tensor] = []
        hooks = [
            norm.register_forward_pre_hook(lambda _, args: read.append(args[0])) for norm in norms(module)
        ]
        with torch.no_grad(), arithmetic("cpu", "never"):
            module(images)
        for hook in hooks:
            hook.remove()
        means = [norm.running_mean for norm in norms(module)]
        return max(float((x.mean((0, 2, 3)) - mean).abs().max()) for x, mean in zip(read, means, strict=True))

    adapted = quantized_module(net, replace(CONFIG, samples=32, bn_adaptation_samples=32), [images], EXAMPLE)
    assert off(adapted) < 0.01
    assert off(quantized_module(net, CONFIG, [images], EXAMPLE)) > 0.5
    assert not any(part.training for part in adapted.modules())


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [own for own in module.modules() if isinstance(own, nn.BatchNorm2d)]


def test_options_that_nncf_has_not_on_modules_are_refused() -> None:
    for option, value in (("bias_correction", "full"), ("target_device", "cpu_spr")):
        with pytest.raises(ConfigError, match=rf"quantize\.{option}: .*quantize=nncf_ptq"):
            from_plain(QuantizeConfig, {"kind": "nncf_ptq_torch", option: value}, "quantize")
    config = NncfPTQTorch(samples=7, preset="performance", bn_adaptation_samples=5)
    assert from_plain(QuantizeConfig, to_plain(config)) == config


def test_what_cannot_be_quantized_is_said() -> None:
    with pytest.raises(ExportError, match="no calibration images"):
        quantize(small_net(), CONFIG, [], EXAMPLE)
    with pytest.raises(ExportError, match="calibration image 0 is 1×8×8, the network takes 3×16×16"):
        quantize(small_net(), CONFIG, [torch.zeros(2, 1, 8, 8)], EXAMPLE)
    other = torch.zeros(1, 1, 8, 8)
    with pytest.raises(ExportError, match=r"NNCF cannot quantize this network: .*quantize=nncf_ptq"):
        quantize(small_net(), CONFIG, [other], other)
    net = small_net()
    next(net.parameters()).data[0] = float("nan")
    with pytest.raises(ExportError, match=r"stem\.0\.weight holds NaN"):
        quantize(net, CONFIG, [patterns(4)], EXAMPLE)


def test_without_torchao_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(MissingPackageError, match=r"torchao is not installed.*pip install 'bnas\[torchao\]'"):
        quantize(small_net(), CONFIG, [patterns(4)], EXAMPLE)
