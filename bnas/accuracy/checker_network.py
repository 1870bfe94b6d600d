"""A launcher of the accuracy checker's configuration: which network runs, and what the Model Optimizer adds to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bnas.accuracy.keys import Keys, text_of, whole_of
from bnas.accuracy.steps import levels
from bnas.errors import ConfigError, did_you_mean
from bnas.export.preprocess import Preprocess
from bnas.export.run import SUFFIXES

BuiltIn = Callable[[Path], bool]
"""Whether a network has the Model Optimizer's pre-processing built in."""

FRAMEWORKS = ("dlsdk", "openvino", "onnx_runtime", "tf", "tf2", "tf_lite")
_OTHER_FRAMEWORKS = {
    "pytorch": "export the module (python -m bnas export) and name its file under framework: openvino",
    "g-api": "use framework: openvino",
    "opencv": "use framework: openvino",
    **dict.fromkeys(("caffe", "mxnet", "paddlepaddle"), "convert the network to ONNX; OpenVINO runs that"),
}
_PATHS = ("model", "onnx_model", "tf_model", "saved_model_dir", "saved_model")
_SAME = "the answers are the same with and without"
_BEFORE = "give the converted network"

_LAUNCHER = Keys(
    used=(
        "framework", "device", "adapter", *_PATHS, "weights", "mo_params", "mo_flags", "batch", "cpu_extensions",
        "datasets",
    ),
    noted={
        "tags": "a name alone",
        "async_mode": _SAME,
        "num_requests": _SAME,
        "allow_reshape_input": "the network takes its own size",
        "reset_memory_state": "classifiers have no memory",
        "model_optimizer": "nothing is converted; networks run as they are",
        "execution_providers": "networks run on this machine's CPU",
    },
    refused={
        **dict.fromkeys(
            ("caffe_model", "caffe_weights", "mxnet_weights", "kaldi_model", "params", "tf_meta"),
            "convert the network to ONNX and give it as onnx_model",
        ),
        "inputs": "networks with one input, an image, are checked",
        "device_config": "layers that are not INT8 run in FP32; leave it out",
        "gpu_extensions": "networks run on this machine's CPU; leave it out",
        "delayed_model_loading": "leave it out",
    },
)  # fmt: skip
_MO_PARAMS = Keys(
    used=("mean_values", "scale_values", "scale", "input_shape", "reverse_input_channels", "layout"),
    noted={
        "output": "the network's first output is taken",
        "input": "the network's one input is taken",
        "data_type": "weights stay as they are",
        "model_name": "nothing is converted",
        "output_dir": "nothing is converted",
        "framework": "nothing is converted",
        "batch": "as many images at a time as the network takes",
    },
    refused=dict.fromkeys(
        (
            "freeze_placeholder_with_value", "transformations_config", "tensorflow_use_custom_operations_config",
            "tensorflow_object_detection_api_pipeline_config", "extensions", "input_model", "input_proto",
        ),
        _BEFORE,
    ),
)  # fmt: skip
_FLAGS = (
    "disable_fusing", "disable_gfusing", "disable_resnet_optimization", "disable_nhwc_to_nchw", "keep_shape_ops",
    "static_shape", "silent", "progress", "stream_output", "disable_weights_compression", "use_new_frontend",
    "use_legacy_frontend",
)  # fmt: skip
_ADAPTER = Keys(
    used=("type",),
    noted={
        "classification_output": "the network's first output is taken",
        "do_softmax": "it keeps the order of the classes",
    },
    refused=dict.fromkeys(
        (
            "argmax_output",
            "fixed_output",
            "fixed_output_index",
            "block",
            "label_as_array",
            "multi_label_threshold",
        ),
        "the network must give one score for each class",
    ),
)


def an_ir_has(path: Path) -> bool:
    """As the accuracy checker takes it: what is in IR went through the Model Optimizer, with its options."""
    return path.suffix == ".xml"


@dataclass(frozen=True, kw_only=True)
class CheckedNetwork:
    """The file of a network, what is done to its images first (None: nothing) and their (height, width), if known.

    `built_in`: the configuration has more to be done, and the network is taken to do that itself.
    """

    path: Path
    preprocess: Preprocess | None = None
    size: tuple[int, int] | None = None
    batch: int | None = None
    built_in: bool = False
    notes: tuple[str, ...] = ()


def read_launcher(
    entry: Any, where: str, *, name: str, models: Path | None, built_in: BuiltIn
) -> CheckedNetwork:
    """The network of one launcher; `models` is what -m says, `name` what the model is called.

    Raises:
        ConfigError: an option, device, framework or task that cannot be done here, or a network that is not there.
    """
    options, notes = _LAUNCHER.check(entry, where)
    framework = str(options.get("framework"))
    if framework in _OTHER_FRAMEWORKS:
        raise ConfigError(f"{where}.framework: {framework!r} is not run here: {_OTHER_FRAMEWORKS[framework]}")
    if framework not in FRAMEWORKS:
        raise ConfigError(
            f"{where}.framework: there is no {framework!r}{did_you_mean(framework, FRAMEWORKS)}"
        )
    device = str(options.get("device", "CPU"))
    if device.upper() not in ("CPU", "AUTO"):
        raise ConfigError(f"{where}.device: {device!r} cannot be used here; networks are checked on CPU")
    if options.get("cpu_extensions", "AUTO") != "AUTO":
        raise ConfigError(f"{where}.cpu_extensions: OpenVINO has all layers built in; leave it out")
    notes += _adapter_notes(options.get("adapter", "classification"), f"{where}.adapter")
    path, more = _network(options, where, name, models)
    _check_weights(text_of(options, "weights", where), path, where, models)
    network = CheckedNetwork(path=path, batch=whole_of(options, "batch", where), notes=(*notes, *more))
    return _with_optimizer(network, options, where, built_in)


def _with_optimizer(
    network: CheckedNetwork, options: Mapping[str, Any], where: str, built_in: BuiltIn
) -> CheckedNetwork:
    """With what mo_params and mo_flags say, done to the images where it is not built into the network.

    The Model Optimizer's order: Parameter, ReverseInputChannels, mean, scale, the network.
    """
    params, notes = _MO_PARAMS.check(options.get("mo_params") or {}, f"{where}.mo_params")
    reverse = bool(params.get("reverse_input_channels", False))
    flags = options.get("mo_flags") or []
    for flag in flags if isinstance(flags, list) else [flags]:
        if flag == "reverse_input_channels":
            reverse = True
        elif flag in _FLAGS:
            notes += (f"{where}.mo_flags: {flag}: nothing is converted",)
        else:
            known = ("reverse_input_channels", *_FLAGS)
            raise ConfigError(f"{where}.mo_flags: there is no {flag!r}{did_you_mean(str(flag), known)}")
    mean = _values(params.get("mean_values"), f"{where}.mo_params.mean_values")
    if "scale" in params and "scale_values" in params:
        raise ConfigError(f"{where}.mo_params.scale: give scale or scale_values, not both")
    scale = _values(params.get("scale_values", params.get("scale")), f"{where}.mo_params.scale_values")
    if scale is not None and 0 in scale:
        raise ConfigError(f"{where}.mo_params.scale_values: 0 cannot be divided by")
    size = _input_size(params.get("input_shape"), str(params.get("layout", "")), f"{where}.mo_params")
    network = replace(network, size=size, notes=(*network.notes, *notes))
    if mean is None and scale is None and not reverse:
        return network
    if built_in(network.path):
        note = (
            f"{where}.mo_params: taken to be built into {network.path.name}, which is not changed by them; if "
            "they are not, add built_in=no"
        )
        return replace(network, built_in=True, notes=(*network.notes, note))
    preprocess = Preprocess(mean_values=mean, scale_values=scale, reverse_input_channels=reverse, u8=False)
    note = (
        f"{where}.mo_params: done to the images; if {network.path.name} has them built in, add built_in=yes"
    )
    return replace(network, preprocess=preprocess, notes=(*network.notes, note))


def _adapter_notes(adapter: Any, where: str) -> tuple[str, ...]:
    options, notes = _ADAPTER.check({"type": adapter} if isinstance(adapter, str) else adapter, where)
    if options.get("type") != "classification":
        raise ConfigError(
            f"{where}: {options.get('type')!r} is for another task; classification is checked here"
        )
    return notes


def _network(
    options: Mapping[str, Any], where: str, name: str, models: Path | None
) -> tuple[Path, tuple[str, ...]]:
    given = [key for key in _PATHS if key in options]
    if len(given) > 1:
        raise ConfigError(f"{where}.{given[1]}: give one network, not {' and '.join(given)}")
    value = text_of(options, given[0], where) if given else None
    place = f"{where}.{given[0]}" if given else f"{where}.model"
    if models is not None and models.is_file() and (value is None or value.startswith("<")):
        return models, ()
    if value is not None and value.startswith("<"):
        raise ConfigError(f"{place}: {value} stands for a file; put its path there, or give it with -m FILE")
    if models is not None and models.is_file() and value is not None:
        raise ConfigError(
            f"{place}: is {value}, so -m must be the folder that it is in, got the file {models}"
        )
    if value is None and models is None:
        raise ConfigError(f"{place}: missing; name the network's file, or give it with -m")
    path = (models or Path()) / (value or "")
    if not path.exists():
        raise ConfigError(f"{place}: there is no {path}; -m is the folder that it is in")
    return _in_folder(path, name, place) if path.is_dir() else (path, ())


def _in_folder(folder: Path, name: str, place: str) -> tuple[Path, tuple[str, ...]]:
    """The network in a folder: the one called like the model, or the only one; a SavedModel is its folder."""
    if (folder / "saved_model.pb").is_file():
        return folder, ()
    found = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    called = [file for file in found if file.stem == name]
    if len(called or found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ConfigError(f"{place}: {folder} must hold one network, or one called {name}; it holds {names}")
    chosen = (called or found)[0]
    return chosen, (f"{place}: {chosen.name}, found in {folder}",)


def _check_weights(weights: str | None, network: Path, where: str, models: Path | None) -> None:
    if weights is None or weights.startswith("<"):
        return
    folder = models if models is not None and models.is_dir() else Path()
    if (folder / weights).resolve() != network.with_suffix(".bin").resolve():
        raise ConfigError(f"{where}.weights: {weights}; OpenVINO looks for {network.with_suffix('.bin')}")


def _values(value: Any, where: str) -> tuple[float, ...] | None:
    """Numbers as the Model Optimizer takes them: 127.5, (1,2,3), [1,2,3], or after the name of the one input."""
    if value is None:
        return None
    named = re.fullmatch(r"\s*[\w./:-]*\s*[\[(]([^\])]*)[\])]\s*", value) if isinstance(value, str) else None
    return levels(named[1] if named else value, where)


def _input_size(value: Any, layout: str, where: str) -> tuple[int, int] | None:
    """(height, width) of an input_shape such as "(1,3,224,224)"; channels are 3, wherever they are."""
    if value is None:
        return None
    parts = value.strip().strip("()[]").split(",") if isinstance(value, str) else value
    try:
        shape = [int(part) for part in parts]
    except (TypeError, ValueError):
        shape = []
    last = len(shape) == 4 and shape[3] == 3 and (shape[1] != 3 or layout.lower().startswith("nhwc"))
    if len(shape) != 4 or (not last and shape[1] != 3):
        raise ConfigError(f"{where}.input_shape: expected one image input, as (1,3,224,224), got {value!r}")
    height, width = shape[1:3] if last else shape[2:4]
    return (height, width) if min(height, width) > 0 else None
