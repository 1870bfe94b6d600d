"""Precisions of the parts of a module, carried over to the operations of the OpenVINO graph that it becomes.

Tensors keep the names that they had when the module was traced, so that it is known which module made them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any

from torch import Tensor, nn

from bnas.errors import ExportError, did_you_mean
from bnas.export.openvino_ir import convert_with_modules
from bnas.space import PRECISIONS, Precision, Precisions
from bnas.space.precision import part_of

# What OpenVINO calls an operation that it has not put in the place of others: `__module.fc/aten::linear/MatMul`.
_NAME = re.compile(r"(?:__module\.([^/]+)/)?\w+::")
_DEFAULT: Precision = "int8_channel"  # where nothing is said


def check_precisions(module: nn.Module, precisions: Precisions) -> None:
    """Raise ExportError for a part that the module has not, or a precision that there is not."""
    paths = {path for path, _ in module.named_modules(remove_duplicate=False)}
    for path, precision in precisions.items():
        if path not in paths:
            raise ExportError(f"precisions: the network has no module '{path}'{did_you_mean(path, paths)}")
        if precision not in PRECISIONS:
            raise ExportError(
                f"precisions: {path or 'the network'}: no precision '{precision}'"
                f"{did_you_mean(precision, PRECISIONS)}"
            )


def convert_mixed(
    module: nn.Module, example: Tensor, precisions: Precisions
) -> tuple[Any, dict[str, Precision]]:
    """`module` as `convert` makes it, and by its name the precision of each operation.

    An operation that no module made, as OpenVINO put it there, goes with the first that reads it. One that is in
    none of the parts goes with what it reads first.

    Raises:
        ExportError: the module cannot be converted, or `precisions` do not fit it.
    """
    check_precisions(module, precisions)
    model, modules = convert_with_modules(module, example)
    parts = tuple(precisions)
    nodes = {
        str(node.get_friendly_name()): node
        for node in model.get_ordered_ops()
        if node.get_type_name() not in ("Constant", "Parameter", "Result")
    }
    order = {name: place for place, name in enumerate(nodes)}
    found: dict[str, Precision] = {}
    for name, node in reversed(nodes.items()):
        path = module_of(node, modules)
        if path is None:
            readers = [reader for reader in _readers(node) if reader in found]
            if readers:
                found[name] = found[min(readers, key=order.__getitem__)]
        elif (part := part_of(path, parts)) is not None:
            found[name] = precisions[part]
    for name, node in nodes.items():
        if name not in found:
            sources = (found[source] for source in _sources(node) if source in found)
            found[name] = next(sources, precisions.get("", _DEFAULT))
    return model, found


def module_of(node: Any, modules: Mapping[str, str]) -> str | None:
    """The path of the module that made an operation; None: it cannot be told."""
    for output in node.outputs():
        for name in sorted(output.get_names()):
            if name in modules:
                return modules[name]
    found = _NAME.match(node.get_friendly_name())
    return (found[1] or "") if found else None


def of_precision(operations: Mapping[str, str], precision: Precision) -> frozenset[str]:
    """The names of the operations of one precision."""
    return frozenset(name for name, own in operations.items() if own == precision)


def take_weights(model: Any, other: Any, names: Set[str]) -> None:
    """Give those operations of `model` the weights and biases that they have in `other`, its twin.

    Both are quantized networks of one structure, with other scales of the weights.
    """
    twins = {node.get_friendly_name(): node for node in other.get_ops()}
    for node in list(model.get_ordered_ops()):
        if (name := node.get_friendly_name()) in names:
            for port in range(node.get_input_size()):
                if _is_constant(node.input_value(port).get_node()):
                    node.input(port).replace_source_output(twins[name].input_value(port))
    model.validate_nodes_and_infer_types()


def _readers(node: Any) -> list[str]:
    return [
        target.get_node().get_friendly_name()
        for output in node.outputs()
        for target in output.get_target_inputs()
    ]


def _sources(node: Any) -> list[str]:
    return [node.input_value(port).get_node().get_friendly_name() for port in range(node.get_input_size())]


def _is_constant(node: Any) -> bool:
    if node.get_type_name() == "Constant":
        return True
    sources = [node.input_value(port).get_node() for port in range(node.get_input_size())]
    return bool(sources) and all(_is_constant(source) for source in sources)
