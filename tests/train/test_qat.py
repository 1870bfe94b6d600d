"""Training with quantizers in place: what it starts from, that it learns, that a kill changes nothing."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toy import PRETRAIN, SIDE, toy_images, toy_net

from bnas.data import ImageSplits
from bnas.errors import ConfigError, RunError
from bnas.export.openvino_runtime import compile_network
from bnas.quantize.nncf_extension import arithmetic
from bnas.quantize.nncf_qat import NncfQAT
from bnas.quantize.nncf_torch import quantized_module, to_openvino
from bnas.train import evaluate, loop, pretrain
from bnas.train import qat as module_of
from bnas.train.qat import finetune_config, train_quantized

DATA = ImageSplits(name="toy", train=toy_images(256, 1), val=toy_images(400, 2), test=toy_images(10, 3))
CALIBRATION = [toy_images(32, 1).x]
EXAMPLE = torch.zeros(1, 1, SIDE, SIDE)
CONFIG = NncfQAT(samples=32, epochs=4, lr=0.05, batch_size=32, distill=0.2, preset="performance")


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """Half trained, so that there is something to gain."""
    model = toy_net()
    pretrain(model, DATA, replace(PRETRAIN, epochs=2, batch_size=32), seed=0)
    return model.eval()


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_it_learns_weights_and_ranges_and_goes_to_openvino(net: nn.Module) -> None:
    before = copy.deepcopy(net.state_dict())
    start = state(quantized_module(net, CONFIG, CALIBRATION, EXAMPLE))
    trained = train_quantized(net, CONFIG, CALIBRATION, EXAMPLE, DATA, seed=0)
    assert trained.metric == "top1_percent"
    assert trained.kept
    assert trained.after > trained.before + 1
    after = state(trained.module)
    assert start.keys() == after.keys()
    ranges = [name for name in after if name.endswith(".scale")]
    assert len(ranges) > 6
    assert all(not torch.equal(after[name], start[name]) for name in (*ranges, "stem.weight", "head.weight"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(part.training for part in trained.module.modules())
    with arithmetic("cpu", "never"):
        assert evaluate(trained.module, DATA.val) == trained.after
    quantized = to_openvino(trained.module, EXAMPLE)
    constants = [op for op in quantized.model.get_ops() if op.get_type_name() == "Constant"]
    int8 = [op for op in constants if op.get_element_type().get_type_name() == "i8"]
    assert len(int8) == 6  # a stem, two convolutions in each of two blocks, a head
    compiled = compile_network(quantized.model)
    predicted = evaluate(
        lambda images: torch.cat([torch.from_numpy(compiled(x[None].numpy())[0].copy()) for x in images]),
        DATA.val,
    )
    assert predicted == pytest.approx(trained.after, abs=1.5)


def test_a_training_that_was_killed_ends_as_one_that_was_not(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, epochs=1, checkpoint_seconds=0.0)
    whole = train_quantized(net, config, CALIBRATION, EXAMPLE, DATA, seed=0)
    step, steps = loop.train_step, []

    def halting(*args: object) -> object:
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return step(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_step", halting)
    with pytest.raises(KeyboardInterrupt):
        train_quantized(net, config, CALIBRATION, EXAMPLE, DATA, seed=0, checkpoint=tmp_path)
    monkeypatch.setattr(module_of, "quantized_module", None)  # it is not quantized a second time
    again = train_quantized(net, config, [], EXAMPLE, DATA, seed=0, checkpoint=tmp_path)
    assert len(steps) == 4 + 8 - 3  # of eight, three were done and kept
    assert again == whole
    for name, tensor in state(again.module).items():
        assert torch.equal(tensor, state(whole.module)[name]), name
    assert (
        train_quantized(net, config, [], EXAMPLE, DATA, seed=0, checkpoint=tmp_path) == whole
    )  # done: nothing is trained
    assert len(steps) == 4 + 8 - 3
    for path in tmp_path.rglob("*.pt"):
        torch.load(path, weights_only=True)


def test_checkpoints_of_other_options_or_another_network_are_refused(net: nn.Module, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=0.25)
    train_quantized(net, config, CALIBRATION, EXAMPLE, DATA, seed=0, checkpoint=tmp_path)
    with pytest.raises(RunError, match=r"quantize\.preset was 'performance', is 'mixed'"):
        train_quantized(
            net, replace(config, preset="mixed"), CALIBRATION, EXAMPLE, DATA, seed=0, checkpoint=tmp_path
        )
    other = copy.deepcopy(net)
    next(other.parameters()).data.add_(1e-3)
    with pytest.raises(RunError, match="network was"):
        train_quantized(other, config, CALIBRATION, EXAMPLE, DATA, seed=0, checkpoint=tmp_path)


def test_what_becomes_worse_is_left_as_it_was_quantized(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruined(model: nn.Module, *_: object, **__: object) -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name == "head.weight":
                    parameter.zero_()

    monkeypatch.setattr(module_of, "finetune", ruined)
    start = quantized_module(net, CONFIG, CALIBRATION, EXAMPLE)
    trained = train_quantized(net, CONFIG, CALIBRATION, EXAMPLE, DATA, seed=0)
    assert not trained.kept
    assert trained.after < trained.before
    assert all(
        torch.equal(tensor, start.state_dict()[name]) for name, tensor in state(trained.module).items()
    )


def test_the_fp32_network_teaches(net: nn.Module) -> None:
    """With all of the loss its, wrong labels have no say."""
    images = toy_images(256, 1)
    wrong = replace(DATA, train=replace(images, y=(images.y + 1) % 4))
    config = replace(CONFIG, epochs=2, distill=1.0, lr=0.01)
    taught, labels = (
        train_quantized(net, own, CALIBRATION, EXAMPLE, wrong, seed=0)
        for own in (config, replace(config, distill=0.0, lr=0.05))
    )
    assert taught.after > taught.before - 3
    assert labels.after < labels.before - 10


def test_ranges_do_not_decay_and_options_are_checked() -> None:
    config = finetune_config(replace(CONFIG, weight_decay=0.1))
    assert (config.weight_decay, config.decay, config.precision) == (0.1, {"__nncf_hooks.*": 0.0}, "float32")
    assert (config.epochs, config.lr, config.distill) == (4, 0.05, 0.2)
    for option, value in (("epochs", 0.0), ("lr", -1.0), ("distill", 1.5)):
        with pytest.raises(ConfigError, match=f"{option}: expected"):
            NncfQAT(**{option: value})
    with pytest.raises(ConfigError, match="schedule"):
        finetune_config(NncfQAT(schedule="cosines"))
