"""Batch norms over two real processes, against torch's own in one process with the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from processes import SHARES, norm_cases, passed, results, supernet_passed
from torch import Tensor
from torch.nn import functional

from bnas.train.sync_norms import synchronized_norms

PARAMETER_GRADIENTS = ("weight.grad", "bias.grad")
# of values of about 1: rounding in another order; bfloat16 has 8 bits, and 3000 ± 2 in float32 about 14 left
TOLERANCE = {"double": 1e-12, "bfloat16 images": 1.6e-2, "far from zero": 2e-3}


@pytest.fixture(scope="module")
def shared() -> list[dict[str, Any]]:
    return [own["norms"] for own in results()]


def close(own: Tensor, expected: Tensor, tolerance: float) -> bool:
    scale = max(1.0, float(expected.abs().max()))
    return own.dtype == expected.dtype and float((own - expected).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("name", list(norm_cases()))
def test_output_gradients_and_statistics_are_those_of_the_whole_batch(
    name: str, shared: list[dict[str, Any]]
) -> None:
    whole = passed(*norm_cases()[name])
    tolerance = TOLERANCE.get(name, 1e-5)
    for share, own in zip(SHARES, (part[name] for part in shared), strict=True):
        assert own.keys() == whole.keys()
        for key, value in own.items():
            if key in PARAMETER_GRADIENTS:
                continue
            expected = whole[key][share] if key in ("y", "x", "eval") else whole[key]
            assert close(value, expected, tolerance), key
            if key in ("y", "x"):  # the layout of memory too
                assert value.is_contiguous() == expected.is_contiguous()
    for key in PARAMETER_GRADIENTS:
        if key in whole:
            total = sum(part[name][key] for part in shared)
            assert close(total, whole[key], tolerance), key
    if "running_var" in whole:  # one process's images alone would give other numbers
        norm, x, grad = norm_cases()[name]
        alone = passed(norm, x[SHARES[0]], grad[SHARES[0]])
        assert not close(alone["running_var"], whole["running_var"], 10 * tolerance)


def test_a_supernets_step_is_that_of_the_whole_batch(shared: list[dict[str, Any]]) -> None:
    whole = supernet_passed(slice(0, 8), recompute=False)
    for key, expected in whole.items():
        values = [part["supernet"][key] for part in shared]
        if key.endswith(".grad"):
            assert close(values[0] + values[1], expected, 1e-5), key
        else:
            assert torch.equal(values[0], values[1]), key
            assert close(values[0], expected, 1e-5), key
    assert any("running_var" in key for key in whole)


def test_recomputed_blocks_have_the_same_gradients(shared: list[dict[str, Any]]) -> None:
    for part in shared:
        gradients = [key for key in part["supernet"] if key.endswith(".grad")]
        assert gradients
        assert all(torch.equal(part["supernet"][key], part["recomputed"][key]) for key in gradients)


def test_alone_batch_norm_is_torchs_own() -> None:
    own = functional.batch_norm
    with synchronized_norms(True):
        assert functional.batch_norm is own


def test_it_is_undone_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    own = functional.batch_norm
    monkeypatch.setattr("bnas.train.sync_norms._processes", lambda: 2)
    with pytest.raises(KeyError):
        _fails_inside(own)
    assert functional.batch_norm is own


def _fails_inside(own: Any) -> None:
    with synchronized_norms(True):
        assert functional.batch_norm is not own
        raise KeyError
