"""From a model's name to the module: made, filled with its weights, and tried once on an input."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from bnas.errors import ModelError, did_you_mean
from bnas.models.classifiers import classifier_family, classifier_names
from bnas.models.family import ModelConfig, ModelFamily, Shape, Weights
from bnas.models.tiny_resnet import TinyResNet
from bnas.models.weights import SUFFIXES, copy_weights, load_weights

_SET_BY_BNAS = ("num_classes", "channels", "weights", "progress", "aux_logits")


def _make_tiny_resnet(config: ModelConfig, num_classes: int, shape: Shape) -> nn.Module:
    return TinyResNet(num_classes, shape[0], **config.options)


FAMILIES: dict[str, ModelFamily] = {
    "tiny_resnet": ModelFamily(name="tiny_resnet", make=_make_tiny_resnet),
    **{name: classifier_family(name) for name in classifier_names()},
}


def load_model(
    config: ModelConfig | str,
    *,
    num_classes: int = 1000,
    shape: Shape = (3, 224, 224),
    seed: int = 0,
) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network that `config` names, in eval mode, and an example of its inputs, (Tensor [1, C, H, W],).

    It has its pretrained weights where `weights_for` knows of some, else fresh ones fixed by `seed`.

    Raises:
        ModelError: no such model or weights, options it does not take, weights that do not fit, or a network
            that does not run on images of `shape` or returns no [1, num_classes].
    """
    config = ModelConfig(name=config) if isinstance(config, str) else config
    family, source = find_family(config.name), weights_for(config, num_classes)
    for option in config.options:
        if option in _SET_BY_BNAS:
            raise ModelError(f"model.options.{option}: not an option: the data and model.weights decide it")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = family.make(config, num_classes, shape)
        except ModelError:
            raise
        except Exception as error:  # what a network makes of its options is its own affair
            raise ModelError(f"{_described(config)} cannot be made: {_one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{config.name}: must return a torch.nn.Module, got {type(model).__name__}")
    if source is not None:
        named = {weights.name: weights for weights in family.weights()}
        if source in named:
            copy_weights(model, _fetch(named[source], config.name), f"{source} of {config.name}")
        else:
            load_weights(model, source)
    model.eval()
    example = torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))
    _try(model, example, num_classes, config)
    return model, (example,)


def weights_for(config: ModelConfig, num_classes: int) -> str | None:
    """Where pretrained weights come from: a name that the family can fetch, a file, or None (pretrain first).

    Raises:
        ModelError: no such model, file or weights.
    """
    family = find_family(config.name)
    if config.weights is None or config.weights == "none":
        return None
    known = family.weights()
    if config.weights == "auto":
        return next((weights.name for weights in known if weights.num_classes == num_classes), None)
    names = [weights.name for weights in known]
    path = Path(config.weights).expanduser()
    if config.weights in names or path.is_file():
        return config.weights
    if path.suffix in SUFFIXES or len(path.parts) > 1:
        raise ModelError(f"model.weights: no such file: {path}")
    raise ModelError(
        f"model.weights: {config.weights!r} is no file and no weights of {config.name}"
        + did_you_mean(config.weights, ("auto", "none", *names))
    )


def find_family(name: str) -> ModelFamily:
    """The family called `name`, or that of the callable `my_package.my_module:make`.

    The callable is given `num_classes` and `shape` where it has parameters of these names, and the options.

    Raises:
        ModelError: there is no such family, module or callable.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise ModelError(
            f"model.name: no model {name!r}{did_you_mean(name, FAMILIES)} "
            "(your own: my_package.my_module:make)"
        )
    try:
        make_own = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # importing runs the user's own code
        raise ModelError(f"model.name: cannot import {name!r}: {_one_line(error)}") from error
    if not callable(make_own):
        raise ModelError(f"model.name: {name!r} is no callable but {type(make_own).__name__}")

    def make(config: ModelConfig, num_classes: int, shape: Shape) -> nn.Module:
        taken = inspect.signature(make_own).parameters
        given = {"num_classes": num_classes, "shape": shape}
        model: nn.Module = make_own(**{k: v for k, v in given.items() if k in taken}, **config.options)
        return model

    return ModelFamily(name=name, make=make)


def _fetch(weights: Weights, model_name: str) -> Mapping[str, Tensor]:
    try:
        return weights.fetch()
    except (OSError, RuntimeError, EOFError, HTTPException, UnpicklingError) as error:
        reason = getattr(error, "reason", None) or _one_line(error)
        raise ModelError(
            f"weights {weights.name} of {model_name} could not be fetched ({reason}); "
            f"give a file: model.weights=/path/{weights.file}"
        ) from error


def _try(model: nn.Module, example: Tensor, num_classes: int, config: ModelConfig) -> None:
    size = "×".join(map(str, example.shape[1:]))
    try:
        with torch.no_grad():
            output = model(example)
    except Exception as error:
        raise ModelError(
            f"{_described(config)} does not run on images of {size}: {_one_line(error)}; "
            "try another data.size"
        ) from error
    if not isinstance(output, Tensor) or output.shape != (1, num_classes):
        got = f"shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(
            f"{_described(config)} must return a tensor [1, {num_classes}] for an image of {size}, got {got}"
        )


def _described(config: ModelConfig) -> str:
    return f"{config.name} with model.options={dict(config.options)}" if config.options else config.name


def _one_line(error: Exception) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
