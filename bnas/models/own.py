"""A model of the user's own, by the name of what makes it, and the inputs it is to be called with."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from bnas.errors import ModelError
from bnas.models.family import Inputs, ModelConfig, ModelFamily, Shape, one_image


def own_family(name: str) -> ModelFamily:
    """The family of the callable (or of the module) `my_package.my_module:make`.

    The callable is given `num_classes`, where they are known, and `shape`, where it has parameters of these
    names, and the options. Its attribute `example_inputs`, if there is one, makes the inputs.

    Raises:
        ModelError: there is no such module or callable.
    """
    made_by = imported(name, "model.name")
    if not callable(made_by):
        raise ModelError(f"model.name: {name!r} is no callable but {type(made_by).__name__}")

    def make(config: ModelConfig, num_classes: int, shape: Shape) -> nn.Module:
        if isinstance(made_by, nn.Module):
            if config.options:
                raise ModelError(f"model.options: {name} is a module that is made already, it takes none")
            return copy.deepcopy(made_by)
        taken = inspect.signature(made_by).parameters
        if "num_classes" in taken and not num_classes and taken["num_classes"].default is inspect._empty:
            raise ModelError(f"{name} asks for num_classes: set model.num_classes")
        known = {"num_classes": num_classes, "shape": shape}
        model: nn.Module = made_by(**{k: v for k, v in known.items() if v and k in taken}, **config.options)
        return model

    found = None if isinstance(made_by, (type, nn.Module)) else getattr(made_by, "example_inputs", None)

    def inputs(config: ModelConfig, shape: Shape) -> Any:
        return one_image(config, shape) if found is None else call(found, f"{name}.example_inputs", shape)

    return ModelFamily(name=name, make=make, task="other", inputs=inputs, num_classes=0)


def example_inputs(config: ModelConfig, family: ModelFamily, model: nn.Module, shape: Shape) -> Inputs:
    """What to call `model` with: by `model.inputs`, by its own method `example_inputs`, else by its family.

    A dict stands for keyword arguments, a tuple for positional ones, and anything else for a single one.

    Raises:
        ModelError: they cannot be made, or hold no tensor.
    """
    if config.inputs is not None:
        what, made = config.inputs, call(imported(config.inputs, "model.inputs"), config.inputs, shape)
    elif family.task == "other" and callable(method := getattr(model, "example_inputs", None)):
        what = f"{type(model).__name__}.example_inputs"
        made = call(method, what, shape)
    else:
        what, made = f"the inputs of {family.name}", family.inputs(config, shape)
    if not _has_tensor(made):
        raise ModelError(
            f"{what}: expected a tensor, a tuple of positional inputs or a dict of keyword inputs, "
            f"got {type(made).__name__} without a tensor"
        )
    if isinstance(made, Mapping):
        return dict(made)
    return made if type(made) is tuple else (made,)


def imported(name: str, option: str) -> Any:
    """What `my_package.my_module:attribute` names; `option` is where it was named, for errors.

    Raises:
        ModelError: it cannot be imported.
    """
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # importing runs the user's own code
        raise ModelError(f"{option}: cannot import {name!r}: {one_line(error)}") from error


def call(make: Callable[..., Any], what: str, shape: Shape) -> Any:
    """`make(shape=...)` where it has a parameter of this name, else `make()`.

    Raises:
        ModelError: it is no callable or fails.
    """
    if not callable(make):
        raise ModelError(
            f"{what}: expected a callable that returns example inputs, got {type(make).__name__}"
        )
    try:
        taken = inspect.signature(make).parameters
        return make(shape=shape) if "shape" in taken else make()
    except Exception as error:  # the user's own code may raise anything
        raise ModelError(f"{what} fails: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """Type and first line of an error."""
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _has_tensor(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_tensor, value.values()))
    return isinstance(value, Tensor) or (isinstance(value, (list, tuple)) and any(map(_has_tensor, value)))
