"""What is written for deployment: the artefact, its digest, and the table of exporters.

To add a format: a frozen config dataclass derived from `ExportConfig` and one function under `@exporter`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import Tensor, nn

from bnas.errors import ConfigError, ExportError, RunError, did_you_mean
from bnas.export.preprocess import Preprocess

# "f32" or "int8"; with encodings what weights and activations are, where these differ as "int4/int16" or "int8/f16".
Precision = str
Runtime = Literal["openvino", "torch", "onnx", "aimet"]
LATER = {"plain": "unless default"}  # of options that came after runs had been written without them
# What follows a network's name in the files of the format "aimet", in the order in which its digest takes them.
AIMET_FILES = (".encodings", ".onnx", ".pth", ".encodings.yaml", "_torch.encodings", "_params.json")


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A quantized network in its runtime's own form, not yet written.

    `model` is an `openvino.Model`; with `runtime` "torch" a `torch.fx.GraphModule`, with "onnx" an `onnx.ModelProto`,
    with "aimet" a `bnas.export.encodings.Encoded`.
    `operations`: where its parts differ in precision, that of each operation by its name in `model`. `detector`: the
    torch module, where it is a detector, for what is to follow `model` in a file with non-maximum suppression.
    """

    model: Any
    precision: Precision = "int8"
    runtime: Runtime = "openvino"
    operations: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    detector: nn.Module | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A written network.

    `digest` is the SHA-256 of all its files, `size_bytes` their sum. `verify` fills in what was found by
    running it beside the torch module: `largest_difference` between their outputs as a fraction of the
    module's largest |output|, and how many per cent of the images get the same top-1 class.
    `format` is "openvino_ir", "onnx", "torch_export", "torchscript" or "aimet", or that of an exporter of your own.
    `preprocess` is what is built into it: then it takes images as they are stored, not normalised ones. `nms`: its
    outputs are the boxes found in an image, not scores and regressions of all anchors.
    """

    path: str
    format: str
    precision: Precision
    digest: str
    size_bytes: int
    largest_difference: float | None = None
    agreement_percent: float | None = None
    preprocess: Preprocess | None = field(default=None, metadata=LATER)
    nms: bool = field(default=False, metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """How to export; each format derives its own.

    `batch`: images per inference, null for any number. `tolerance`: largest difference between the outputs of an
    FP32 artefact and the torch module, as a fraction of the module's largest |output|. `min_agreement_percent`: an
    INT8 artefact that gives fewer of the images the class that the torch module gives them is broken, not merely less
    accurate. `also`: further formats that a run writes, each the name of a kind (which takes the three options above
    from this one) or the options of one. `int8`: whether a run writes this format in INT8 besides FP32.
    """

    batch: int | None = 1
    tolerance: float = 1e-3
    min_agreement_percent: float = 50.0
    also: tuple[str | ExportConfig, ...] = field(default=(), metadata=LATER)
    int8: bool = field(default=True, metadata=LATER)

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise ConfigError(f"batch: expected 1 or more, or null for any number, got {self.batch}")
        if self.tolerance <= 0:
            raise ConfigError(f"tolerance: expected more than 0, got {self.tolerance}")
        if not 0 <= self.min_agreement_percent <= 100:
            raise ConfigError(f"min_agreement_percent: expected 0 to 100, got {self.min_agreement_percent}")
        for entry in self.also:
            if isinstance(entry, str) and entry not in kinds():
                raise ConfigError(f"also: no such format '{entry}'{did_you_mean(entry, kinds())}")
            if isinstance(entry, ExportConfig) and entry.also:
                raise ConfigError("also: a format named there has no `also` of its own")

    def formats(self) -> tuple[ExportConfig, ...]:
        """This format, and those in `also`."""
        shared: dict[str, Any] = {
            "batch": self.batch,
            "tolerance": self.tolerance,
            "min_agreement_percent": self.min_agreement_percent,
        }
        others = (kinds()[entry](**shared) if isinstance(entry, str) else entry for entry in self.also)
        return replace(self, also=()), *others


Exporter = Callable[[nn.Module | Quantized, Any, Path, Tensor], Artefact]
E = TypeVar("E", bound=Exporter)

EXPORTERS: dict[type[ExportConfig], Exporter] = {}


def kinds() -> dict[str, type[ExportConfig]]:
    """The configs of all exporters that have a name, by that: their `kind`."""
    return {kind: cls for cls in EXPORTERS if (kind := getattr(cls, "kind", None)) is not None}


def exporter(config: type[ExportConfig]) -> Callable[[E], E]:
    """Register the function that exports as `config` says."""

    def register(function: E) -> E:
        EXPORTERS[config] = function
        return function

    return register


def export(model: nn.Module | Quantized, config: ExportConfig, path: Path | str, example: Tensor) -> Artefact:
    """Write `model` (a module in eval mode, or what `quantize` returns) to `path`.

    `example` is one input, [n, C, H, W]. A detector is written as `bnas.detection.RawTensors`, without decoding.

    Raises:
        ExportError: the network cannot be converted; the text names the operation.
        RunError: the file cannot be written.
    """
    function = EXPORTERS.get(type(config))
    if function is None:
        known = [cls.__name__ for cls in EXPORTERS]
        raise ExportError(
            f"export: no exporter for {type(config).__name__}{did_you_mean(type(config).__name__, known)}"
        )
    return function(model, config, Path(path), example)


def check_digest(artefact: Artefact) -> None:
    """Raise RunError when the artefact's files are missing, or not those that were written."""
    command = "quantize" if artefact.precision == "int8" and artefact.format == "openvino_ir" else "export"
    again = f"run `bnas {command} --force` to write it again"
    found = digest_of(*(_read(path, again) for path in files_of(artefact)))
    if found != artefact.digest:
        raise RunError(
            f"{artefact.path} is damaged: it is not the network that was exported (SHA-256 {found[:16]}… "
            f"instead of {artefact.digest[:16]}…); {again}"
        )


def files_of(artefact: Artefact) -> tuple[Path, ...]:
    """All files of the artefact, in the order in which its digest takes them."""
    path = Path(artefact.path)
    if artefact.format == "aimet":
        return tuple(path.with_name(f"{path.stem}{end}") for end in AIMET_FILES)
    return (path, path.with_suffix(".bin")) if artefact.format == "openvino_ir" else (path,)


def digest_of(*contents: bytes) -> str:
    """SHA-256 in hex over all contents."""
    sha = hashlib.sha256()
    for content in contents:
        sha.update(content)
    return sha.hexdigest()


def _read(path: Path, again: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise RunError(f"{path} {reason}; {again}") from error
