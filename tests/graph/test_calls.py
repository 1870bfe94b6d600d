from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from bnas.graph.calls import Calls


def test_calls_are_seen_while_it_is_entered_but_for_its_own() -> None:
    seen = []

    def run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        seen.append((function, args, kwargs))
        return torch.neg(function(*args, **kwargs))

    x = torch.ones(())
    with Calls(run):
        y = torch.add(x, 2, alpha=3)
        z = abs(y)
    assert (float(y), float(z)) == (-7, -7)
    assert float(torch.add(x, 2)) == 3
    (first, second) = seen
    assert first == (torch.add, (x, 2), {"alpha": 3})
    assert second[1:] == ((y,), {})
