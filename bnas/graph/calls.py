"""Every call of a torch function, as it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode

Run = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""Is given a function and its arguments, by position and by keyword, and gives the result of the call."""


class Calls(TorchFunctionMode):
    """While it is entered, `run` runs every torch function; those that it calls itself are run as usual."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return self.run(func, args, kwargs or {})
