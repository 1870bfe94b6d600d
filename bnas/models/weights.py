"""Pretrained weights from a file into a model: read safely, compared by name and shape, then copied."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
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

SUFFIXES = (".pth", ".pt", ".safetensors")
_NESTED_UNDER = ("state_dict", "model_state_dict", "model")
# torchvision's older files write denselayer1.norm.1.weight for what is now denselayer1.norm1.weight.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.")


def load_weights(model: nn.Module, path: Path | str, *, new_head: bool = False) -> None:
    """Copy the weights in the file `path` into `model`; all of its keys must be there with their shapes.

    With `new_head` its last layer keeps the weights that it has, whatever the file holds for it.
    The file is a .safetensors, or a .pth or .pt with a state dict, plain or under "state_dict" or "model",
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
    fitting, head = _renamed(weights, own, source), next(reversed(own), "").rpartition(".")[0]
    if new_head:
        fitting.update({key: value for key, value in own.items() if key.rpartition(".")[0] == head})
    misshapen = {
        key: f"{key} {_size(fitting.pop(key))} instead of {_size(value)}"
        for key, value in own.items()
        if key in fitting and fitting[key].shape != value.shape
    }
    before = deepcopy(own)  # torch renames the keys of old formats while it loads: compare after it
    missing, unexpected = model.load_state_dict(fitting, strict=False)
    # Counters of batches, which old files lack and inference does not read.
    missing = [k for k in missing if k not in misshapen and not k.endswith(".num_batches_tracked")]
    if misshapen or missing or unexpected:
        model.load_state_dict(before)
        if {key.rpartition(".")[0] for key in misshapen} == {head} and not missing and not unexpected:
            raise ModelError(
                f"{source}: weights for another number of classes ({next(iter(misshapen.values()))}); take "
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
        name = name if name in own else _OLD_DENSENET.sub(r"\1\2.", name)
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


def _size(x: Tensor) -> str:
    return "×".join(map(str, x.shape)) or "scalar"


def _listed(what: str, keys: list[str]) -> str:
    if not keys:
        return ""
    return f"{len(keys)} {what}: {', '.join(keys[:3])}{', …' if len(keys) > 3 else ''}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
