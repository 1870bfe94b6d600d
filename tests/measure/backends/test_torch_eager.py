from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bnas.errors import MeasureError
from bnas.measure import HwConfig
from bnas.measure.backends import torch_eager

EXAMPLE = torch.zeros(1, 3, 16, 16)


class Witness(nn.Module):
    """Tells how many threads it was run on, and its input."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        channels_last = x.is_contiguous(memory_format=torch.channels_last)
        self.seen.append((torch.get_num_threads(), channels_last, torch.is_inference_mode_enabled()))
        return x

    def __deepcopy__(self, memo: object) -> Witness:
        return self


@pytest.mark.parametrize("threads", [1, 2])
def test_networks_run_on_the_threads_that_were_asked_for(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnas.measure.hardware.logical_cores", lambda: 4)
    before = torch.get_num_threads()
    net = Witness().eval()
    hw = HwConfig(backend="torch_eager", precision="f32", threads=threads)
    torch_eager.prepare(net, hw, EXAMPLE)()
    assert set(net.seen) == {(threads, True, True)}
    assert torch.get_num_threads() == before


def test_the_operation_that_fails_is_said() -> None:
    class Mismatch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x, torch.ones(4, 5, 1, 1))

    hw = HwConfig(backend="torch_eager", precision="bf16", threads=1, batch=2)
    with pytest.raises(MeasureError, match=r"cannot run this network on 2 images in bf16: .*\[4, 5, 1, 1\]"):
        torch_eager.prepare(Mismatch().eval(), hw, EXAMPLE)


@pytest.mark.parametrize("output", [{"out": EXAMPLE}, (EXAMPLE, 1), [[EXAMPLE]]])
def test_the_first_tensor_is_the_output(output: object) -> None:
    assert torch_eager.outputs_of(output)[0] is EXAMPLE
    with pytest.raises(MeasureError, match="holds no tensor: NoneType"):
        torch_eager.outputs_of(None)
