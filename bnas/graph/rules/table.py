"""The two tables of rules and the decorators that fill them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from bnas.graph.trace import Call, Trace

FunctionRule = Callable[["Trace", "Call"], None]
ModuleRule = Callable[["Trace", str, nn.Module, "Call"], None]

FUNCTION_RULES: dict[str, FunctionRule] = {}
MODULE_RULES: dict[type[nn.Module], ModuleRule] = {}
AFTER_RULES: dict[type[nn.Module], Callable[..., None]] = {}


def function_name(function: Callable[..., Any]) -> str:
    """One name for all forms of a function: torch.add, Tensor.add_, Tensor.__iadd__ are all `add`."""
    name: str = getattr(function, "__name__", type(function).__name__)
    if name == "__get__":  # a property of a tensor, as in x.T
        owner = getattr(function, "__self__", None)
        name = getattr(owner, "__name__", "property")
    if name.startswith("__"):
        name = name.strip("_")
        if name[:1] in ("i", "r") and name[1:] in _OPERATORS:
            name = name[1:]
        return name
    return name.rstrip("_")


_OPERATORS = frozenset(
    ("add", "sub", "mul", "div", "truediv", "floordiv", "pow", "matmul", "mod", "and", "or", "xor")
)


def rule(*names: str) -> Callable[[FunctionRule], FunctionRule]:
    """Enter a rule for the torch functions of these names (see `function_name`)."""

    def enter(function: FunctionRule) -> FunctionRule:
        FUNCTION_RULES.update(dict.fromkeys(names, function))
        return function

    return enter


def module_rule(*kinds: type[nn.Module]) -> Callable[[ModuleRule], ModuleRule]:
    """Enter a rule that stands for the whole `forward` of modules of exactly these classes."""

    def enter(function: ModuleRule) -> ModuleRule:
        MODULE_RULES.update(dict.fromkeys(kinds, function))
        return function

    return enter


def after_rule(*kinds: type[nn.Module]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Enter a rule that is called after the traced `forward` of modules of these classes and their subclasses."""

    def enter(function: Callable[..., None]) -> Callable[..., None]:
        AFTER_RULES.update(dict.fromkeys(kinds, function))
        return function

    return enter
