"""Which formats a run exports: what `export` and `export.also` ask for, and what quantizes for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from bnas.commands.project import Project
from bnas.data import Images
from bnas.data.cached import CachedImages
from bnas.data.crops import MEAN, STD
from bnas.data.folder import FolderImages
from bnas.errors import ConfigError
from bnas.export import ExportConfig, Onnx, OpenVinoIR, Preprocess
from bnas.plain import from_plain, to_plain
from bnas.quantize import QuantizeConfig
from bnas.quantize.encodings import Aimet
from bnas.quantize.nncf_fx import NncfPTQFx
from bnas.quantize.nncf_qat import NncfQAT
from bnas.quantize.onnx_qdq import OnnxQdq

# What quantizes for a format. INT8 networks in OpenVINO IR come from the stage `quantize`.
_QUANTIZERS: dict[str, type[QuantizeConfig]] = {
    "onnx": OnnxQdq,
    "torch_export": NncfPTQFx,
    "aimet": Aimet,
}
_SUFFIXES = {
    "openvino_ir": ".xml",
    "onnx": ".onnx",
    "torch_export": ".pt2",
    "torchscript": ".ts",
    "aimet": ".encodings",
}
FURTHER = (".onnx", ".pt2", ".ts")  # suffixes of files that are written when they are asked for


def plain_ir(config: ExportConfig) -> OpenVinoIR:
    """OpenVINO IR as every run writes it: of normalised images, for timing, accuracy and the report."""
    own = config if isinstance(config, OpenVinoIR) else OpenVinoIR(**_shared(config))
    return replace(own, preprocess=None, nms=False, input_shape=None, also=())


def formats_of(config: ExportConfig, images: Images) -> tuple[OpenVinoIR, list[ExportConfig]]:
    """Plain OpenVINO IR, and what else `config` asks for; pre-processing is that of `images` where it is left open.

    Raises:
        ConfigError: a format is asked for twice, or the images' normalisation is not known.
    """
    first, *others = config.formats()
    further: list[ExportConfig] = []
    for own in (first, *others):
        if isinstance(own, OpenVinoIR):
            if own.preprocess is not None:
                further.append(replace(own, preprocess=_preprocess(own.preprocess, images)))
            elif own.nms:
                further.append(own)
            elif own is not first:
                raise ConfigError(
                    "export.also: openvino_ir is written in any case; give it `preprocess` or, for a detector, `nms`"
                )
        else:
            further.append(own)
    suffixes = [suffix_of(own) for own in further]
    for suffix in suffixes:
        if suffixes.count(suffix) > 1:
            raise ConfigError(f"export.also: two formats would be written to the same file (fp32{suffix})")
    return plain_ir(first), further


def check_export(project: Project) -> None:
    """Raise ConfigError where a format cannot be written as it is asked for, before anything slow is done."""
    _, further = formats_of(project.config.export, project.data.train)
    for config in further:
        if config.int8 and not isinstance(config, OpenVinoIR):
            quantizer_for(project.config.quantize, config)


def _preprocess(asked: Preprocess | str, images: Images) -> Preprocess:
    preprocess = Preprocess() if isinstance(asked, str) else asked
    if preprocess.mean_values is not None and preprocess.scale_values is not None:
        return preprocess
    normalisation = normalisation_of(images)
    if normalisation is None:
        raise ConfigError(
            "export.preprocess: these images do not say how they are normalised (`mean` and `std` of grey levels or "
            "channels from 0 to 1); give mean_values and scale_values"
        )
    return preprocess.completed(*normalisation)


def normalisation_of(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation by which `images` are normalised, of values from 0 to 1, one or one per channel."""
    if isinstance(images, (FolderImages, CachedImages)):
        mean, std = MEAN, STD
    elif hasattr(images, "mean") and hasattr(images, "std"):
        mean, std = images.mean, images.std
    else:
        return None
    return tuple(np.ravel(mean).tolist()), tuple(np.ravel(std).tolist())


def quantizer_for(asked: QuantizeConfig, config: ExportConfig) -> QuantizeConfig:
    """The quantizer for a format, with the options of the run's that it has as well."""
    cls = _QUANTIZERS.get(_kind(config))
    if cls is None:
        raise ConfigError(f"export: there is no quantizer for {_kind(config)}; set its int8=false")
    if isinstance(asked, NncfQAT):
        raise ConfigError(
            f"export: what quantize=nncf_qat trains is written as OpenVINO IR only; set int8=false for {_kind(config)}"
        )
    if asked.precisions:
        raise ConfigError(
            "export: networks whose blocks differ in precision (quantize.precisions) are written as OpenVINO IR only; "
            f"set int8=false for {_kind(config)}"
        )
    own = {field.name for field in fields(cls)} - {"kind", "precisions"}
    plain = {name: value for name, value in to_plain(asked).items() if name in own}
    if isinstance(config, Onnx):
        plain["opset"] = config.opset
    return from_plain(cls, {"kind": cls.__dict__["kind"], **plain}, "quantize")


def _shared(config: ExportConfig) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in fields(ExportConfig)}


def _kind(config: ExportConfig) -> str:
    return str(getattr(config, "kind", type(config).__name__))


def equalization_line(found: Sequence[Mapping[str, Any]]) -> str:
    """What equalization did to networks that have encodings, by `Encoded.equalization` of each; nothing: none has."""
    if not found:
        return ""
    folded, scaled, absorbed = (sum(own[name] for own in found) for name in ("folded", "scaled", "absorbed"))
    most = max((change for own in found for change in own["differences"].values()), default=0.0)
    left = sum(len(set().union(*own["skipped"].values())) for own in found)
    return (
        f"; encodings: batch norms folded: {folded}, pairs of layers equalized: {scaled}, high biases moved: "
        f"{absorbed}, which changed outputs by up to {100 * most:.2g} %; layers left alone: {left} "
        "(`bnas show params` says why)"
    )


def suffix_of(config: ExportConfig) -> str:
    """What follows `fp32` and `int8` in the file's name."""
    known = _SUFFIXES.get(_kind(config), f".{_kind(config)}")
    if not isinstance(config, OpenVinoIR):
        return known
    return ("_u8" if config.preprocess is not None else "") + ("_nms" if config.nms else "") + known
