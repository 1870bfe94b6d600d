"""From a model's name to the module: made, filled with its weights, and an example of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bnas.detection import decoding_of
from bnas.errors import ModelError, did_you_mean
from bnas.models.classifiers import classifier_family, classifier_names
from bnas.models.detectors import detector_family, detector_names
from bnas.models.family import Inputs, ModelConfig, ModelFamily, Shape, Weights
from bnas.models.own import example_inputs, one_line, own_family
from bnas.models.retinanet import FAMILY as RETINANET
from bnas.models.segmenters import segmenter_family, segmenter_names
from bnas.models.ssd_resnet34 import FAMILY as SSD_RESNET34
from bnas.models.tiny_resnet import TinyResNet
from bnas.models.videos import video_family, video_names
from bnas.models.weights import SUFFIXES, copy_weights, load_weights

_SET_BY_BNAS = ("num_classes", "channels", "weights", "weights_backbone", "progress", "aux_logits")


def _make_tiny_resnet(config: ModelConfig, num_classes: int, shape: Shape) -> nn.Module:
    return TinyResNet(num_classes, shape[0], **config.options)


FAMILIES: dict[str, ModelFamily] = {
    family.name: family
    for family in (
        ModelFamily(name="tiny_resnet", make=_make_tiny_resnet, num_classes=10, shape=(1, 32, 32)),
        *map(classifier_family, classifier_names()),
        *map(segmenter_family, segmenter_names()),
        *map(detector_family, detector_names()),
        RETINANET,
        SSD_RESNET34,
        *map(video_family, video_names()),
    )
}


def load_model(
    config: ModelConfig | str,
    *,
    num_classes: int | None = None,
    shape: Shape | None = None,
    seed: int = 0,
) -> tuple[nn.Module, Inputs]:
    """The network that `config` names, in eval mode, and an example of its inputs.

    The inputs are a tuple of positional arguments, as (Tensor [1, C, H, W],), or a dict of keyword
    arguments. What `num_classes` and `shape` (channels, height, width) do not say, `config` says, else the
    family. The network has its pretrained weights where `weights_for` knows of some, else fresh ones fixed
    by `seed`. Lazy modules are run once on the inputs, and so become plain ones.

    Raises:
        ModelError: no such model or weights, options it does not take, weights that do not fit, or a
            classifier that does not run on images of `shape` or returns no [1, num_classes].
    """
    config = ModelConfig(name=config) if isinstance(config, str) else config
    family, source = find_family(config.name), weights_for(config, num_classes)
    classes = num_classes or config.num_classes or family.num_classes
    shape = tuple(shape or config.shape or family.shape)
    for option in config.options:
        if option in (_SET_BY_BNAS if config.name in FAMILIES else _SET_BY_BNAS[:1]):
            raise ModelError(
                f"model.options.{option}: not an option: the data and model.weights decide it "
                "(without data: model.num_classes)"
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _made(family, config, classes, shape)
        torch.manual_seed(seed)
        inputs = example_inputs(config, family, model, shape)
    model.eval()
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        _run(model, inputs, f"{_described(config)} does not run on its example inputs")
    if source is not None:
        new_head = config.head == "new"
        named = {weights.name: weights for weights in family.weights()}
        if source in named:
            published = _fetch(named[source], config.name)
            copy_weights(model, published, f"{source} of {config.name}", new_head=new_head)
        else:
            load_weights(model, source, new_head=new_head)
    # A model of the user's own is to be a classifier, or a detector, where the caller, who has data, knows of classes.
    of_classes = num_classes is not None and decoding_of(model) is None
    own = family.task == "other" and of_classes and _takes_images(model, inputs, shape)
    if config.inputs is None and (family.task == "classification" or own):
        _check_classifier(model, inputs, classes, config)
    return model, inputs


def weights_for(config: ModelConfig, num_classes: int | None = None) -> str | None:
    """Where pretrained weights come from: a name that the family can fetch, a file, or None (pretrain first).

    Raises:
        ModelError: no such model, file or weights.
    """
    family = find_family(config.name)
    if config.weights is None or config.weights == "none":
        return None
    known = family.weights()
    if config.weights == "auto":
        classes = num_classes or config.num_classes or family.num_classes
        fitting = (own.name for own in known if config.head == "new" or own.num_classes == classes)
        return next(fitting, None)
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
    """The family called `name`, or that of what `my_package.my_module:make` names.

    Raises:
        ModelError: there is no such family, module or callable.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    if ":" not in name:
        raise ModelError(
            f"model.name: no model {name!r}{did_you_mean(name, FAMILIES)} "
            "(your own: my_package.my_module:make)"
        )
    return own_family(name)


def _made(family: ModelFamily, config: ModelConfig, num_classes: int, shape: Shape) -> nn.Module:
    try:
        model: Any = family.make(config, num_classes, shape)
    except ModelError:
        raise
    except Exception as error:  # what a network makes of its options is its own affair
        raise ModelError(f"{_described(config)} cannot be made: {one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{config.name}: must return a torch.nn.Module, got {type(model).__name__}")
    return model


def _fetch(weights: Weights, model_name: str) -> Mapping[str, Tensor]:
    try:
        return weights.fetch()
    except (OSError, RuntimeError, EOFError, HTTPException, UnpicklingError) as error:
        reason = getattr(error, "reason", None) or one_line(error)
        raise ModelError(
            f"weights {weights.name} of {model_name} could not be fetched ({reason}); "
            f"give a file: model.weights=/path/{weights.file}"
        ) from error


def _takes_images(model: nn.Module, inputs: Inputs, shape: Shape) -> bool:
    compiled = hasattr(model, "_orig_mod") or getattr(model, "_compiled_call_impl", None) is not None
    images = isinstance(inputs, tuple) and [getattr(x, "shape", None) for x in inputs] == [(1, *shape)]
    return images and not compiled  # to run it would compile it, and no trace can follow that


def _check_classifier(model: nn.Module, inputs: Inputs, num_classes: int, config: ModelConfig) -> None:
    assert isinstance(inputs, tuple)
    size = "×".join(map(str, inputs[0].shape[1:]))
    output = _run(
        model,
        inputs,
        f"{_described(config)} does not run on images of {size}",
        "; try another data.size, or without data model.shape",
    )
    if not isinstance(output, Tensor) or output.shape != (1, num_classes):
        got = f"shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(
            f"{_described(config)} must return a tensor [1, {num_classes}] for an image of {size}, got {got}"
        )


def _run(model: nn.Module, inputs: Inputs, failure: str, advice: str = "") -> Any:
    try:
        with torch.no_grad():
            return model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    except Exception as error:  # the user's own code may raise anything
        raise ModelError(f"{failure}: {one_line(error)}{advice}") from error


def _described(config: ModelConfig) -> str:
    return f"{config.name} with model.options={dict(config.options)}" if config.options else config.name
