"""Pretrained weights from a file into a model: read safely, compared by name and shape, then copied."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bnas.errors import ModelError
from bnas.progress import say

SUFFIXES = (".pth", ".pt", ".pytorch", ".safetensors")
_NESTED_UNDER = ("state_dict", "model_state_dict", "model")
# How torchvision's older files, and MLCommons' RetinaNet after them, name tensors, and how these are named now.
_OLD_NAMES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"(fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)"), r"\1.0.\2"),
    (
        re.compile(r"((?:classification|regression)_head\.conv)\.(\d+)\.(weight|bias)"),
        lambda part: f"{part[1]}.{int(part[2]) // 2}.0.{part[3]}",
    ),
)
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.")


def load_weights(model: nn.Module, path: Path | str, *, new_head: bool = False) -> None:
    """Copy the weights in the file `path` into `model`; all of its keys must be there with their shapes.

    With `new_head` its last layer keeps the weights that it has, whatever the file holds for it; a model whose
    layers for the classes are others names them in `class_layers`, with how many outputs each class has. A model
    with a method `adapted_weights` (state dict → state dict) is asked what it can use of those of a larger network.
    The file is a .safetensors, or a .pth, .pt or .pytorch with a state dict, plain or under "state_dict" or "model",
    its keys with or without the "module." of DataParallel. A model that they do not fit is left as it was.

    Raises:
        ModelError: no such file, unreadable, NaN in it, or the weights of another network; says which keys differ.
    """
    path = Path(path).expanduser()
    copy_weights(model, read_weights(path), str(path), new_head=new_head)


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """The state dict in the file `path`, read without running any code that it may hold.

    Raises:
        ModelError: no such file, or not readable as weights.
    """
    if path.suffix not in SUFFIXES:
        raise ModelError(f"{path}: weights must be a file named {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ModelError(
            f"{path}: no weights that can be read safely (damaged, or more than tensors in it); "
            "save it again with torch.save(model.state_dict(), path)"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read as weights: {_first_line(error)}") from error
    for key in _NESTED_UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not all(isinstance(x, Tensor) for x in content.values()):
        raise ModelError(
            f"{path}: holds no state dict (names with tensors), neither plain nor under "
            + ", ".join(map(repr, _NESTED_UNDER))
        )
    return content


def copy_weights(
    model: nn.Module, weights: Mapping[str, Tensor], source: str, *, new_head: bool = False
) -> None:
    """Copy the state dict `weights` into `model`; `source` says in errors where they come from.

    `new_head`: as in `load_weights`.

    Raises:
        ModelError: as `load_weights`.
    """
    no_numbers = [key for key, x in weights.items() if x.is_floating_point() and bool(x.isnan().any())]
    if no_numbers:
        more = ", …" if len(no_numbers) > 3 else ""
        raise ModelError(
            f"{source} holds values that are not numbers (NaN), in {', '.join(no_numbers[:3])}{more}"
        )
    own: Any = model.state_dict()
    heads = getattr(model, "class_layers", None)
    heads = heads if isinstance(heads, Mapping) else {}
    per_class = heads or {next(reversed(own), "").rpartition(".")[0]: 1}
    fitting = _renamed(weights, own, source)
    if callable(adapted := getattr(model, "adapted_weights", None)):
        fitting = _adapted(fitting, adapted(fitting), source)
    if new_head:
        fitting.update({key: value for key, value in own.items() if key.rpartition(".")[0] in per_class})
    sizes = {
        key: (fitting.pop(key), value)
        for key, value in own.items()
        if key in fitting and fitting[key].shape != value.shape
    }
    misshapen = {key: f"{key} {_size(got)} instead of {_size(value)}" for key, (got, value) in sizes.items()}
    before = deepcopy(own)  # torch renames the keys of old formats while it loads: compare after it
    missing, unexpected = model.load_state_dict(fitting, strict=False)
    # Counters of batches, which old files lack and inference does not read.
    missing = [k for k in missing if k not in misshapen and not k.endswith(".num_batches_tracked")]
    if misshapen or missing or unexpected:
        model.load_state_dict(before)
        layers = {key.rpartition(".")[0] for key in misshapen}
        if layers and layers <= {*per_class} and not missing and not unexpected:
            key, (got, value) = next(iter(sizes.items()))
            each = heads.get(key.rpartition(".")[0])
            counts = f"{len(got) // each} instead of {len(value) // each}: " if each and got.ndim else ""
            raise ModelError(
                f"{source}: weights for another number of classes ({counts}{misshapen[key]}); take "
                "weights made for the data's classes, set model.head=new to keep all but the last layer, or "
                "model.weights=none to pretrain"
            )
        parts = (
            _listed("missing", missing),
            _listed("unexpected", unexpected),
            _listed("misshapen", list(misshapen.values())),
        )
        raise ModelError(f"{source} does not fit the model: {'; '.join(filter(None, parts))}")


def _renamed(weights: Mapping[str, Tensor], own: Any, source: str) -> OrderedDict[str, Tensor]:
    """`weights` under the model's own names, with the format versions that torch's loading looks at."""

    def plain(key: str) -> str:
        return "" if key == "module" else key.removeprefix("module.")

    fitting: OrderedDict[str, Tensor] = OrderedDict()
    dropped = []
    for key, value in weights.items():
        name = key if key in own else plain(key)
        for old, new in () if name in own else _OLD_NAMES:
            name = old.sub(new, name)
        if name not in own and name.startswith(_AUXILIARY):
            dropped.append(name)
        else:
            fitting[name] = value
    if dropped:
        say(f"{source}: {len(dropped)} tensors of auxiliary outputs left out ({dropped[0]}, …)")
    versions = getattr(weights, "_metadata", None)
    known = own._metadata if versions is None else {plain(key): x for key, x in versions.items()}
    fitting._metadata = known  # type: ignore[attr-defined]
    return fitting


def _adapted(
    weights: OrderedDict[str, Tensor], adapted: Mapping[str, Tensor], source: str
) -> OrderedDict[str, Tensor]:
    """What the model says that it takes of `weights`, with their format versions."""
    if left := len(weights) - len(adapted):
        say(f"{source}: {left} tensors left out, of parts that the model is without")
    fitting = OrderedDict(adapted)
    fitting._metadata = weights._metadata  # type: ignore[attr-defined]
    return fitting


def _size(x: Tensor) -> str:
    return "×".join(map(str, x.shape)) or "scalar"


def _listed(what: str, keys: list[str]) -> str:
    if not keys:
        return ""
    return f"{len(keys)} {what}: {', '.join(keys[:3])}{', …' if len(keys) > 3 else ''}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
