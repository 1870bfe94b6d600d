"""One step of the optimizer, against steps on single subnets and against its definition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy import toy_images, toy_supernet

from bnas.space import SubnetConfig
from bnas.supernet import Supernet
from bnas.train import Stage, TrainConfig
from bnas.train.optimizers import make_optimizer, set_learning_rate
from bnas.train.precision import make_scaler
from bnas.train.step import Learner, train_step

STAGE = Stage(name="s", dims={"depth": 0, "width": 0})


def learner_of(supernet: Supernet, *, sum_gradients: bool = False) -> Learner:
    def run_subnet(subnet: SubnetConfig | None, x: Tensor) -> Tensor:
        assert subnet is not None
        supernet.activate(subnet)
        outputs: Tensor = supernet(x)
        return outputs

    return Learner(
        model=supernet.model,
        sampler=lambda stage: lambda step: (),
        run=run_subnet,
        criteria=lambda x, y: lambda subnet, outputs: nn.functional.cross_entropy(outputs, y),
        loss=nn.functional.cross_entropy,
        begin=lambda stage: None,
        evaluate=lambda stage: {},
        sum_gradients=sum_gradients,
    )


def one_step(
    supernet: Supernet, *subnets: SubnetConfig, sum_gradients: bool = False, **options: Any
) -> float:
    """One step at learning rate 0.1 on 16 images; its loss."""
    plain = {"momentum": 0.0, "weight_decay": 0.0, "precision": "float32"}
    config = TrainConfig(**{**plain, **options})
    optimizer = make_optimizer(supernet.model, config)
    set_learning_rate(optimizer, 0.1)
    x, y = toy_images(16, 1).batch(range(16))
    draws = tuple((subnet,) for subnet in subnets)
    learner, scaler = learner_of(supernet, sum_gradients=sum_gradients), make_scaler("float32", x.device)
    return train_step(learner, STAGE, draws, x, y, optimizer, scaler, config).loss


def weights(supernet: Supernet) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in supernet.model.named_parameters()}


def test_a_step_on_two_subnets_is_the_mean_of_their_steps() -> None:
    space = toy_supernet().space
    before = weights(toy_supernet())
    moves, losses = [], []
    for subnets in ((space.largest,), (space.smallest,), (space.largest, space.smallest)):
        supernet = toy_supernet()
        losses.append(one_step(supernet, *subnets))
        moves.append({name: value - before[name] for name, value in weights(supernet).items()})
    assert losses[2] == pytest.approx((losses[0] + losses[1]) / 2)
    for name in before:
        torch.testing.assert_close(
            moves[2][name], (moves[0][name] + moves[1][name]) / 2, rtol=1e-4, atol=1e-6
        )


def test_skipped_blocks_rest_while_inactive_channels_only_decay() -> None:
    supernet = toy_supernet()
    before = weights(supernet)
    one_step(supernet, supernet.space.smallest, weight_decay=0.5)  # no block, 4 of the stem's 8 channels
    after = weights(supernet)
    assert all(torch.equal(after[name], before[name]) for name in after if name.startswith("blocks."))
    decayed = before["stem.weight"] * (1 - 0.1 * 0.5)
    torch.testing.assert_close(after["stem.weight"][4:], decayed[4:])
    assert not torch.allclose(after["stem.weight"][:4], decayed[:4])


def test_gradients_are_clipped_to_the_norm() -> None:
    supernet = toy_supernet()
    before = weights(supernet)
    one_step(supernet, supernet.space.largest, clip_norm=0.01)
    moves = [(value - before[name]).flatten() for name, value in weights(supernet).items()]
    assert float(torch.cat(moves).norm()) == pytest.approx(0.1 * 0.01, rel=1e-3)


def moved(supernet: Supernet, before: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value - before[name] for name, value in weights(supernet).items()}


def test_the_gradients_of_a_step_may_be_summed() -> None:
    before, (mean, total) = weights(toy_supernet()), (toy_supernet(), toy_supernet())
    subnets = mean.space.largest, mean.space.smallest
    losses = one_step(mean, *subnets), one_step(total, *subnets, sum_gradients=True)
    assert losses[0] == losses[1]  # it is the mean that is shown
    once, twice = moved(mean, before), moved(total, before)
    for name in before:
        torch.testing.assert_close(twice[name], 2 * once[name], rtol=1e-4, atol=1e-6)


def test_accumulated_parts_make_the_step_of_the_whole_batch() -> None:
    """Where no layer mixes images: batch norms in eval mode, no dropout."""
    before = weights(toy_supernet())
    moves = []
    for parts in (1, 4):
        supernet = toy_supernet()
        supernet.model.eval()
        one_step(supernet, supernet.space.largest, accumulate=parts)
        moves.append(moved(supernet, before))
    for name in before:
        torch.testing.assert_close(moves[1][name], moves[0][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("sampling", "best"), [("best_up", min), ("worst_up", max)])
def test_of_several_candidates_the_best_or_the_worst_on_the_batch_is_trained(
    sampling: str, best: Any
) -> None:
    supernet = without_dropout()
    space, (x, y) = supernet.space, toy_images(16, 1).batch(range(16))
    candidates = (space.largest, space.smallest, space.decode((0,) * len(space.choices)))
    learner = learner_of(supernet)
    losses = {}
    for subnet in candidates:
        other = without_dropout()
        other.activate(subnet)
        losses[subnet] = float(nn.functional.cross_entropy(other(x), y).detach())
    stage = replace(STAGE, sampling=sampling, subnets_per_step=3)
    buffers = {name: value.clone() for name, value in supernet.model.named_buffers()}
    config = TrainConfig(momentum=0.0, precision="float32")
    optimizer, scaler = make_optimizer(supernet.model, config), make_scaler("float32", x.device)
    made = train_step(learner, stage, (candidates,), x, y, optimizer, scaler, config)
    assert losses[made.subnets[0]] == pytest.approx(best(losses.values()))
    moved_buffers = [
        name for name, value in supernet.model.named_buffers() if not torch.equal(value, buffers[name])
    ]
    counts = [value for name, value in supernet.model.named_buffers() if name.endswith("num_batches_tracked")]
    assert moved_buffers
    assert max(int(count) for count in counts) == 1  # comparing moved no statistics


def without_dropout() -> Supernet:
    supernet = toy_supernet()
    supernet.model.train()
    supernet.model.dropout.p = 0.0
    return supernet


def test_float16_steps_follow_float32_ones() -> None:
    before, moves = weights(toy_supernet()), []
    for precision in ("float32", "float16"):
        supernet = toy_supernet()
        supernet.model.eval()
        one_step(supernet, supernet.space.largest, precision=precision)
        moves.append(torch.cat([value.flatten() for value in moved(supernet, before).values()]))
    assert float((moves[0] - moves[1]).norm() / moves[0].norm()) < 0.02


def test_elements_of_the_gradient_are_clipped() -> None:
    before, moves = weights(toy_supernet()), []
    for options in ({}, {"clip_value": 0.01}):
        supernet = toy_supernet()
        one_step(supernet, supernet.space.largest, **options)
        moves.append(moved(supernet, before))
    clipped = 0
    for name in before:
        torch.testing.assert_close(
            moves[1][name], moves[0][name].clamp(-0.1 * 0.01, 0.1 * 0.01), rtol=1e-3, atol=1e-6
        )
        clipped += int((moves[0][name].abs() > 0.1 * 0.01).sum())
    assert clipped > 20
