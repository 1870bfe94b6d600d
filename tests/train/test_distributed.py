"""Functions that many processes call together, in two real ones; and without any others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from processes import gradients_of, results

from bnas.errors import ConfigError
from bnas.train import distributed
from bnas.train.distributed import (
    World,
    agreed,
    alike,
    average,
    average_gradients,
    joined,
    share_of,
    spread,
    training_device,
    world,
)


@pytest.fixture(scope="module")
def told() -> list[dict[str, Any]]:
    return [own["exchange"] for own in results()]


def test_who_is_there(told: list[dict[str, Any]]) -> None:
    assert [(own["rank"], own["size"], own["leads"]) for own in told] == [(0, 2, True), (1, 2, False)]
    assert all(own["again"] and own["still"] == 2 for own in told)


def test_gradients_become_their_mean_and_none_stays_none(told: list[dict[str, Any]]) -> None:
    for own in told:
        for a, b, mean in zip(gradients_of(0), gradients_of(1), own["gradients"], strict=True):
            if a is None or b is None:
                assert mean is None
                continue
            assert mean.dtype == a.dtype
            assert mean.stride() == a.stride()
            assert torch.equal(mean, (a + b) / 2)


def test_values_and_flags(told: list[dict[str, Any]]) -> None:
    for own in told:
        assert own["average"].tolist() == [1.5, -4.0]
        assert own["averaged"].tolist() == [1.0 + own["rank"], -4.0]  # as it was
        assert own["agreed"] == [False, True, True]
        assert own["alike"] == [True, False]
        assert all(not tensor.any() for tensor in own["spread"])


def test_a_batch_that_cannot_be_shared_equally_is_an_error(told: list[dict[str, Any]]) -> None:
    for own in told:
        assert own["share"] == 8
        assert own["error"] == (
            "batch_size: must be a multiple of the number of processes (2), such as 14, got 15"
        )
    four = World(rank=0, size=4, device=torch.device("cpu"))
    assert [share_of(size, four) for size in (4, 8, 1000)] == [1, 2, 250]
    with pytest.raises(ConfigError, match=r"such as 4, got 2"):
        share_of(2, four)


def test_alone_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with joined() as own:
        assert own == world() == World(rank=0, size=1, device=torch.device("cpu"))
        assert own.leads
        assert not torch.distributed.is_initialized()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined() as own:
        assert own.size == 1
        assert not torch.distributed.is_initialized()
    parameter = torch.zeros(2)
    parameter.grad = gradient = torch.ones(2)
    average_gradients([parameter])
    spread([parameter])
    assert parameter.grad is gradient
    assert (agreed(True), agreed(False), alike(7)) == (True, False, True)
    assert torch.equal(average(gradient), gradient)
    assert share_of(15, own) == 15


def test_the_device_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert training_device("auto") == training_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"device: no CUDA device here, got 'cuda'"):
        training_device("cuda")
    for name in ("gpu", "cuda:", "cuda:x", "CUDA", "cpu:0", "", "cuda1"):
        with pytest.raises(ConfigError, match=r"device: must be auto, cpu, cuda or cuda:0"):
            training_device(name)


def test_the_device_with_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)  # as `joined` sets it in the second process
    assert training_device("auto") == training_device("cuda") == torch.device("cuda", 1)
    assert training_device("cuda:0") == torch.device("cuda", 0)
    assert training_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"cuda:0 to cuda:1, got 'cuda:2'"):
        training_device("cuda:2")
    monkeypatch.setattr(distributed, "world", lambda: World(rank=1, size=4, device=torch.device("cpu")))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert training_device("auto") == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match=r"2 processes on this machine, each with its own; use cuda"):
        training_device("cuda:0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match=r"4 processes on this machine and 2 CUDA devices.*per-node=2"):
        training_device("auto")
    assert training_device("cpu") == torch.device("cpu")
