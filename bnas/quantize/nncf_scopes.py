"""Names of operations as NNCF 2 wrote them: `ResNet/Sequential[layer1]/Bottleneck[0]/NNCFConv2d[conv1]/conv2d_0`.

The class of the network; the modules that were entered, each with its class and its name; the torch function, and how
many times that module had called it before (NNCF 2, nncf/torch/dynamic_graph/operation_address.py). A name without a
function is a whole module; `{re}` and a regular expression stand for all names in which it is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from bnas.errors import ConfigError

_REGEX = "{re}"
_MODULE = re.compile(r"[^\[\]/]+\[([^\[\]/]+)\]")
_CALL = re.compile(r"[^\[\]/]+_\d+")

# What torch's operators are called when NNCF 2 traces them; others have the name that torch's tracer gives them.
_CONVOLUTIONS = tuple(f"{kind}{rank}d" for kind in ("conv", "conv_transpose") for rank in (2, 1, 3))
_AS_IN_NNCF: dict[str, tuple[str, ...]] = {
    "_convolution": _CONVOLUTIONS,
    "convolution": _CONVOLUTIONS,
    **{
        name: (f"__{name}__", f"__r{name}__", f"__i{name}__")
        for name in ("add", "sub", "mul", "matmul", "pow")
    },
    "rsub": ("__rsub__",),
    "div": ("__truediv__", "__rtruediv__", "__itruediv__", "__div__"),
    **dict.fromkeys(("select", "slice", "index"), ("__getitem__",)),
    "relu": ("RELU",),
    **{
        f"upsample_{how}": ("interpolate",)
        for how in (
            "nearest1d",
            "nearest2d",
            "nearest3d",
            "linear1d",
            "bilinear2d",
            "bicubic2d",
            "trilinear3d",
        )
    },
    "scaled_dot_product_attention": ("scaled_dot_product_attention",),
}
# Those that NNCF 2 puts another module in the place of, `NNCFConv2d` for `Conv2d`.
_WRAPPED = re.compile(r"(Conv|ConvTranspose|BatchNorm)[123]d|Linear|LayerNorm|GroupNorm|Embedding(Bag)?")


@dataclass(frozen=True)
class Call:
    """A torch function called by a module: its `path`, the function's name (`add_`), and how many times before."""

    path: str
    function: str
    index: int

    @property
    def names(self) -> tuple[str, ...]:
        """What NNCF 2 may have called it, without the modules."""
        plain = self.function.rstrip("_") or self.function
        functions = dict.fromkeys((self.function, plain, f"{plain}_", *_AS_IN_NNCF.get(plain, ())))
        return tuple(f"{function}_{self.index}" for function in functions)


@dataclass(frozen=True)
class Scope:
    """A name taken apart: the path of a module and, unless all of it is meant, what it calls there."""

    path: str
    call: str | None

    def means(self, call: Call) -> bool:
        """Whether the call is what is named."""
        if self.call is not None:
            return call.path == self.path and self.call in call.names
        return not self.path or call.path == self.path or call.path.startswith(f"{self.path}.")


def scope_of(text: str) -> Scope:
    """A name, no `{re}`, taken apart.

    Raises:
        ConfigError: it is no such name.
    """
    _, *inner = text.split("/")
    named = _CALL.fullmatch(inner[-1]) if inner else None
    modules = [_MODULE.fullmatch(part) for part in (inner[:-1] if named else inner)]
    if not inner or not all(modules):
        raise ConfigError(
            f"'{text}' is no name of NNCF 2, as `ResNet/Sequential[layer1]/Bottleneck[0]/NNCFConv2d[conv1]/conv2d_0`, "
            "or {re} and a regular expression"
        )
    return Scope(".".join(part[1] for part in modules if part), named[0] if named else None)


def found_by(text: str, module: nn.Module, calls: Iterable[Call]) -> Iterator[Call]:
    """Those of a network's calls that a name, or `{re}…`, means.

    Raises:
        ConfigError: it is no such name, or no regular expression.
    """
    if _REGEX not in text:
        scope = scope_of(text)
        yield from (call for call in calls if scope.means(call))
        return
    try:
        wanted = re.compile(text.replace(_REGEX, ""))
    except re.error as error:
        raise ConfigError(f"'{text}' is no regular expression: {error}") from error
    classes = {path: type(own).__name__ for path, own in module.named_modules(remove_duplicate=False)}
    for call in calls:
        if any(wanted.search(address) for address in _addresses(call, classes)):
            yield call


def missing_module(text: str, paths: Iterable[str]) -> str | None:
    """The path of a module that a name speaks of and that the network does not have; None: it has it, or `{re}…`."""
    if _REGEX in text:
        return None
    path = scope_of(text).path
    return None if path in set(paths) else path


def _addresses(call: Call, classes: Mapping[str, str]) -> Iterator[str]:
    """All names that NNCF 2 may have had for a call."""
    parts = call.path.split(".") if call.path else []
    outer = [classes.get("", "")]
    for depth, name in enumerate(parts, start=1):
        outer.append(f"{classes.get('.'.join(parts[:depth]), '')}[{name}]")
    ways = [outer]
    if parts and _WRAPPED.fullmatch(classes.get(call.path, "")):
        ways.append([*outer[:-1], f"NNCF{outer[-1]}"])
    for way in ways:
        yield from ("/".join((*way, name)) for name in call.names)
