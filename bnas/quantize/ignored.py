"""What is not quantized: rules about torch modules, carried over to the operations of the OpenVINO graph."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from bnas.errors import ConfigError, ExportError, did_you_mean
from bnas.export.openvino_ir import convert_with_modules
from bnas.quantize.mixed import convert_mixed, module_of
from bnas.quantize.nncf_options import Ignored, NncfOptions
from bnas.quantize.nncf_scopes import Call, found_by, missing_module
from bnas.quantize.overflow import say_once
from bnas.quantize.preprocessing_scopes import without_preprocessing
from bnas.space import Precision, Precisions

# `__module.fc/aten::linear/MatMul_1`: the function, and the call's number behind what it became.
_CALL = re.compile(r"aten::(\w+)/[A-Za-z]\w*?(?:_(\d+))?$")
_LISTED = 12  # so many known names are told to who got one wrong


def converted(
    module: nn.Module, example: Tensor, options: object, precisions: Precisions | None = None
) -> tuple[Any, dict[str, Precision]]:
    """`module` as an `openvino.Model` in FP32, and the precision of each operation by its name; none: all is alike.

    `options` decides if it is an `NncfOptions`, `precisions` do for parts of the module.

    Raises:
        ExportError: it cannot be converted, or a rule about what is ignored names nothing.
    """
    ignored = options.ignored if isinstance(options, NncfOptions) else Ignored()
    ignored = without_preprocessing(ignored, module)
    whole: Precision = "fp32"
    usual: Precision = "int8_channel"
    if isinstance(options, NncfOptions) and options.weights.per_channel is False:
        usual = "int8_tensor"
    if precisions:
        model, operations = convert_mixed(module, example, precisions)
        modules = convert_with_modules(module, example)[1] if ignored else {}
    else:
        model, modules = convert_with_modules(module, example)
        operations = {}
    if ignored:
        names = ignored_operations(model, modules, module, example, ignored)
        operations = operations or dict.fromkeys(_operations(model), usual)
        operations |= dict.fromkeys(names, whole)
    elif usual != "int8_channel" and not operations:
        operations = dict.fromkeys(_operations(model), usual)
    return model, operations


def ignored_operations(
    model: Any, modules: Mapping[str, str], module: nn.Module, example: Tensor, ignored: Ignored
) -> frozenset[str]:
    """The names of the operations that `ignored` means.

    `model` and `modules` are what `convert_with_modules` makes of `module`.

    Raises:
        ExportError: a rule names nothing, or is no regular expression.
    """
    calls = _calls(model, modules, _folded(module, example))
    classes = {path: type(own).__name__ for path, own in module.named_modules(remove_duplicate=False) if path}
    kinds = {name: str(node.get_type_name()) for name, node in _operations(model).items()}
    found: set[str] = set()

    def take(
        option: str, rule: str, paths: Iterable[str], names: Iterable[str], known: Iterable[str]
    ) -> None:
        inside = tuple(paths)
        own = {name for name, made in calls.items() if any(_is_in(call.path, inside) for call in made)}
        own |= set(names)
        if not own and not _is_skipped(rule, module):
            _names_nothing(
                f"quantize.ignored.{option}: '{rule}' names no operation of the network", known, ignored
            )
        found.update(own)

    for name in ignored.names:
        take(
            "names",
            name,
            [name] if name in classes else [],
            [name] if name in kinds else [],
            (*classes, *kinds),
        )
    for kind in ignored.types:
        paths = [path for path, own in classes.items() if own == kind]
        names = [name for name, own in kinds.items() if own == kind]
        take("types", kind, paths, names, {*classes.values(), *kinds.values()})
    for pattern in ignored.patterns:
        try:
            wanted = re.compile(pattern)
        except re.error as error:
            raise ExportError(
                f"quantize.ignored.patterns: '{pattern}' is no regular expression: {error}"
            ) from error
        paths = [path for path in classes if wanted.fullmatch(path)]
        take("patterns", pattern, paths, [name for name in kinds if wanted.fullmatch(name)], ())
    for scope in ignored.scopes:
        found |= _in_scope(scope, module, calls, ignored)
    return frozenset(found)


def _in_scope(scope: str, module: nn.Module, calls: Mapping[str, Set[Call]], ignored: Ignored) -> set[str]:
    """The operations that a name of NNCF 2 means.

    A function that the network does not call needs no exception, which a line says: what NNCF 2 traced may have held
    more than what is exported. A module that is not there is a wrong name.
    """
    try:
        meant = set(found_by(scope, module, {call for made in calls.values() for call in made}))
        paths = [path for path, _ in module.named_modules(remove_duplicate=False)]
        missing = missing_module(scope, paths)
    except ConfigError as error:
        raise ExportError(f"quantize.ignored.scopes: {error}") from error
    where = f"quantize.ignored.scopes: '{scope}'"
    if missing is not None and not _is_skipped(missing, module):
        _names_nothing(f"{where}: the network has no module '{missing}'", paths, ignored)
    elif not meant and missing is None and "{re}" in scope:
        _names_nothing(f"{where} names no operation of the network", (), ignored)
    elif not meant and missing is None:
        say_once(f"{where}: the network computes no such thing there, so nothing is to be ignored")
    return {name for name, made in calls.items() if made & meant}


def _names_nothing(text: str, known: Iterable[str], ignored: Ignored) -> None:
    if not ignored.validate:
        say_once(f"{text}; nothing is ignored by it")
        return
    names = sorted(set(known))
    guess = did_you_mean(text.split("'")[-2], names)
    listed = guess if guess.startswith("; did") or len(names) <= _LISTED else ""
    raise ExportError(f"{text}{listed}; quantize.ignored.validate=false goes on without it")


def _operations(model: Any) -> dict[str, Any]:
    """What computes in a network, by name, in order."""
    return {
        str(node.get_friendly_name()): node
        for node in model.get_ordered_ops()
        if node.get_type_name() not in ("Constant", "Parameter", "Result")
    }


def _calls(model: Any, modules: Mapping[str, str], folded: Mapping[str, str]) -> dict[str, set[Call]]:
    """The torch calls that each operation came from, by its name.

    One that no call is known of, as OpenVINO put it there, goes with the first that reads it; so does a convolution
    that a batch norm has been folded into, which belongs to the calls of both.
    """
    nodes = _operations(model)
    order = {name: place for place, name in enumerate(nodes)}
    made: dict[str, set[Call]] = {}
    for name, node in reversed(nodes.items()):
        path, known = module_of(node, modules), _CALL.search(name)
        if path is None:
            readers = [
                str(target.get_node().get_friendly_name())
                for output in node.outputs()
                for target in output.get_target_inputs()
            ]
            inner = [reader for reader in readers if reader in made]
            made[name] = set(made[min(inner, key=order.__getitem__)]) if inner else set()
            continue
        function, index = (known[1], int(known[2] or 0)) if known else ("", 0)
        made[name] = {Call(path, function, index)}
        if path in folded:
            made[name].add(Call(folded[path], "_convolution", index))
    return made


def _folded(module: nn.Module, example: Tensor) -> dict[str, str]:
    """By the path of each batch norm that reads a convolution's output, the path of that convolution."""
    outputs: dict[int, tuple[str, Tensor]] = {}
    found: dict[str, str] = {}

    def after(path: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        outputs[id(output)] = path, output  # kept, so that the number is not given to another tensor

    def before(path: str, _module: nn.Module, inputs: Any) -> None:
        if inputs and id(inputs[0]) in outputs:
            found[path] = outputs[id(inputs[0])][0]

    hooks: list[Any] = []
    for path, own in module.named_modules():
        if isinstance(own, (_ConvNd, nn.Linear)):
            hooks.append(own.register_forward_hook(partial(after, path)))
        elif isinstance(own, _BatchNorm):
            hooks.append(own.register_forward_pre_hook(partial(before, path)))
    try:
        with torch.no_grad():
            module(example[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _is_skipped(path: str, module: nn.Module) -> bool:
    """Whether a path leads into a block that a subnet skips: there is an `nn.Identity` in its place."""
    for name in path.split("."):
        if isinstance(module, nn.Identity):
            return True
        module = module._modules.get(name) or nn.Module()
    return isinstance(module, nn.Identity)


def _is_in(path: str, parts: tuple[str, ...]) -> bool:
    return any(path == part or path.startswith(f"{part}.") for part in parts)
