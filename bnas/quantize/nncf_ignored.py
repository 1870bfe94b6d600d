"""What is not quantized, found among the operations that NNCF's torch backends see."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor, fx, nn

from bnas.errors import ConfigError, ExportError, did_you_mean
from bnas.quantize.nncf_backend import part_of_nncf
from bnas.quantize.nncf_options import Ignored
from bnas.quantize.nncf_scopes import Call, found_by
from bnas.quantize.overflow import say_once
from bnas.quantize.preprocessing_scopes import without_preprocessing


def torch_scope(nncf: Any, module: nn.Module, image: Tensor, ignored: Ignored) -> Any:
    """NNCF's IgnoredScope for `module`; None where nothing is ignored. `image` is one input [1, C, H, W].

    NNCF calls an operation `layer1/0/conv1/conv2d/0`: the module, the function, and how many times it called it before.

    Raises:
        ExportError: a rule names nothing (unless it may), or is no regular expression.
    """
    ignored = without_preprocessing(ignored, module)
    if not ignored:
        return None
    wrapped = part_of_nncf("torch.function_hook").wrap_model(deepcopy(module).cpu())
    graph = part_of_nncf("torch.function_hook.nncf_graph.nncf_graph_builder").build_nncf_graph(wrapped, image)
    calls = {}
    for node in graph.get_all_nodes():
        *path, function, index = ["", "", *str(node.node_name).split("/")]
        if function and index.isdigit():  # else it is an input, an output or a weight
            calls[node.node_name] = Call(".".join(filter(None, path)), function, int(index))
    return nncf.IgnoredScope(names=ignored_names(calls, module, ignored), validate=False)


def fx_scope(nncf: Any, graph: fx.GraphModule, module: nn.Module, ignored: Ignored) -> Any:
    """NNCF's IgnoredScope for a graph of `torch.export` made of `module`; None where nothing is ignored.

    Raises:
        ExportError: as `torch_scope`.
    """
    ignored = without_preprocessing(ignored, module)
    if not ignored:
        return None
    calls: dict[str, Call] = {}
    before: Counter[tuple[str, str]] = Counter()
    for node in graph.graph.nodes:
        if node.op == "call_function":
            *_, path = ("", *(own for own, _ in node.meta.get("nn_module_stack", {}).values()))
            function = getattr(node.target, "__name__", "").partition(".")[0]  # conv2d.default
            calls[node.name] = Call(path, function, before[path, function])
            before[path, function] += 1
    # batch norms go into convolutions before NNCF looks for names
    return nncf.IgnoredScope(names=ignored_names(calls, module, ignored), validate=False)


def ignored_names(calls: Mapping[str, Call], module: nn.Module, ignored: Ignored) -> list[str]:
    """The names of those of the operations, known by what torch called for them, that a rule names.

    Raises:
        ExportError: a rule names nothing (unless it may), or is no regular expression.
    """
    found: dict[str, None] = {}
    for option in ("names", "types", "patterns", "scopes"):
        for rule in getattr(ignored, option):
            where = f"quantize.ignored.{option}: '{rule}'"
            try:
                own = list(_named(option, rule, calls, module))
            except (re.error, ConfigError) as error:
                raise ExportError(f"{where}: {error}") from error
            if not own:
                text = f"{where} names no operation of the network"
                if ignored.validate:
                    guess = did_you_mean(rule, dict(module.named_modules())) if option == "names" else ""
                    guess = guess if guess.startswith("; did") else ""
                    raise ExportError(f"{text}{guess}; quantize.ignored.validate=false goes on without it")
                say_once(f"{text}; nothing is ignored by it")
            found.update(dict.fromkeys(own))
    return list(found)


def _named(option: str, rule: str, calls: Mapping[str, Call], module: nn.Module) -> Iterator[str]:
    if option == "scopes":
        meant = set(found_by(rule, module, calls.values()))
        yield from (name for name, call in calls.items() if call in meant)
        return
    classes = {path: type(own).__name__ for path, own in module.named_modules(remove_duplicate=False) if path}
    for name, call in calls.items():
        parts = call.path.split(".") if call.path else []
        around = [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]  # from the outermost module
        if option == "names":
            hit = rule == name or rule in around
        elif option == "types":
            hit = rule == call.function or rule in [classes.get(path) for path in around]
        else:
            hit = any(re.fullmatch(rule, own) for own in (name, *around))
        if hit:
            yield name
