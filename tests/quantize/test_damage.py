from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from small_networks import small_net
from torch import Tensor, nn

from bnas.errors import ExportError
from bnas.quantize import NncfPTQ, quantize
from bnas.quantize.damage import check_weights

EXAMPLE = torch.zeros(1, 3, 16, 16)


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("-inf"), "infinite numbers")])
@pytest.mark.parametrize("name", ["block.3.weight", "stem.1.running_var"])
def test_damaged_weights_are_named_before_anything_is_done(value: float, kind: str, name: str) -> None:
    net = small_net()
    check_weights(net)
    net.state_dict()[name].view(-1)[3] = value

    def images() -> Iterator[Tensor]:
        raise AssertionError("images were asked for")
        yield

    with pytest.raises(ExportError, match=rf"{name} holds {kind} \(1 of \d+ numbers\)"):
        quantize(net, NncfPTQ(), images(), EXAMPLE)


def test_a_mask_may_be_infinite_but_no_number_of_it_may_be_none() -> None:
    net = nn.Linear(2, 2)
    net.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    check_weights(net)
    net.register_buffer("mask", torch.tensor([0.0, float("nan")]))
    with pytest.raises(ExportError, match="mask holds NaN"):
        check_weights(net)
