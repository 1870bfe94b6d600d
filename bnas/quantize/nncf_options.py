"""What can be asked of NNCF's quantization, whichever graph it works on, and NNCF's own arguments for it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from torch import Tensor

from bnas.errors import ConfigError, ExportError
from bnas.plain import to_plain
from bnas.quantize.config import QuantizeConfig
from bnas.quantize.nncf_config import filled_in, read_nncf_config
from bnas.quantize.overflow import OverflowFix, overflow_fix, say_once

# Of options that came after runs had been written without them.
_LATER = {"plain": "unless default"}
_CALIBRATION = (
    "samples",
    "bias_correction",
    "bn_adaptation_samples",
    "nncf_config",
)  # which fills in the others

# The statistic of one image, and what is made of those of all images, in NNCF's words (RangeEstimatorParameters).
_RANGES: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "minmax": (("MIN", "MIN"), ("MAX", "MAX")),
    "mean_minmax": (("MIN", "MEAN"), ("MAX", "MEAN")),
    "median_minmax": (("MIN", "MEDIAN"), ("MAX", "MEDIAN")),
    "mean_no_outliers": (("MIN", "MEAN_NO_OUTLIERS"), ("MAX", "MEAN_NO_OUTLIERS")),
    "median_no_outliers": (("MIN", "MEDIAN_NO_OUTLIERS"), ("MAX", "MEDIAN_NO_OUTLIERS")),
    "percentile": (("QUANTILE", "MIN"), ("QUANTILE", "MAX")),
    "mean_percentile": (("QUANTILE", "MEAN"), ("QUANTILE", "MEAN")),
    "histogram": (("RAW", "HISTOGRAM"), ("RAW", "HISTOGRAM")),
}


@dataclass(frozen=True, kw_only=True)
class RangeEstimator:
    """How the range of a tensor is found.

    `by`: its least and greatest value over all images ("minmax"), the mean or median over images of an image's own
    ("mean_minmax", "median_minmax"), these without the images whose own are beyond the percentiles
    ("mean_no_outliers", "median_no_outliers"); its percentiles `low_percent` and `high_percent`, of all images the
    widest ("percentile") or the mean ("mean_percentile"); or the range that costs least error on its histogram
    ("histogram"; where a tensor has a range for each channel, NNCF takes "minmax").
    """

    by: Literal[
        "minmax",
        "mean_minmax",
        "median_minmax",
        "mean_no_outliers",
        "median_no_outliers",
        "percentile",
        "mean_percentile",
        "histogram",
    ]
    low_percent: float = 0.01
    high_percent: float = 99.99

    def __post_init__(self) -> None:
        if not 0 <= self.low_percent < self.high_percent <= 100:
            raise ConfigError(
                f"low_percent: expected 0 ≤ low_percent < high_percent ≤ 100, "
                f"got {self.low_percent:g} and {self.high_percent:g}"
            )


@dataclass(frozen=True, kw_only=True)
class TensorOptions:
    """How weights, or activations, are quantized; null: as NNCF thinks best for the preset and the device.

    `mode`: symmetric about zero, or asymmetric. `signed`: forced to be signed or unsigned, of which NNCF allows
    signed symmetric weights only. `per_channel`: a scale for each channel, or one for the tensor; of activations NNCF
    allows the former before depthwise convolutions only. `bits`: 8, as everything here runs in INT8.
    `range`: how the range is found; null: weights and ranges of channels by "minmax", others by "mean_minmax".
    """

    mode: Literal["symmetric", "asymmetric"] | None = None
    signed: bool | None = None
    per_channel: bool | None = None
    bits: Literal[8] = 8
    range: RangeEstimator | None = None


@dataclass(frozen=True, kw_only=True)
class Ignored:
    """What is not quantized: operations that a rule names, or that belong to a module that it names.

    `names`: paths of modules (`layer1.0.conv1`; with all that is in them) or names of operations of the converted
    graph; `types`: classes of modules (`Hardswish`) or types of operations (`Multiply`); `patterns`: regular
    expressions for the whole of a path or name; `scopes`: names as NNCF 2 wrote them
    (`ResNet/Sequential[layer1]/Bottleneck[0]/NNCFConv2d[conv1]/conv2d_0`), or `{re}` and a regular expression for a
    part of one. A batch norm goes with the convolution it is folded into. `validate`: a rule that names nothing is an
    error; else a line says so.
    """

    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    validate: bool = True

    def __bool__(self) -> bool:
        return bool(self.names or self.types or self.patterns or self.scopes)


@dataclass(frozen=True, kw_only=True)
class NncfOptions(QuantizeConfig):
    """What NNCF's quantizers have in common.

    `preset`: "performance" quantizes activations symmetrically, "mixed" asymmetrically where they have both
    signs. `bias_correction`: shift biases so that layers keep their mean output, layer by layer ("fast"),
    or one after the other on what the layers before really give ("full", slow), or not at all ("none").

    `overflow_fix`: use half of the range of weights, whose products with activations else saturate on CPUs without
    VNNI or AMX, in all layers (but depthwise ones), in the first, in none; "auto": in all if this CPU is one of those,
    else as NNCF does (in the first). `smooth_quant_alpha`: how far the spread of activations is moved into weights, 0
    to 1, -1 for not at all; only with `model_type` "transformer", where null is NNCF's own (.95). `target_device`: what
    the network will run on. `quantize_outputs`: the network's outputs, too. `bn_adaptation_samples`: images on which
    batch norms get new statistics after quantization, for quantizers that keep batch norms.

    `nncf_config`: a JSON file with a configuration as NNCF 2 took it (see `read_nncf_config`): what it says fills in
    every option here that is at its default; an option that is not wins over it.
    """

    preset: Literal["performance", "mixed"] = "mixed"
    bias_correction: Literal["fast", "full", "none"] = "fast"
    weights: TensorOptions = field(default_factory=TensorOptions, metadata=_LATER)
    activations: TensorOptions = field(default_factory=TensorOptions, metadata=_LATER)
    overflow_fix: Literal["auto", "enable", "first_layer_only", "disable"] = field(
        default="auto", metadata=_LATER
    )
    ignored: Ignored = field(default_factory=Ignored, metadata=_LATER)
    smooth_quant_alpha: float | None = field(default=None, metadata=_LATER)
    model_type: Literal["transformer"] | None = field(default=None, metadata=_LATER)
    target_device: Literal["any", "cpu", "cpu_spr", "gpu", "npu"] = field(default="any", metadata=_LATER)
    quantize_outputs: bool = field(default=False, metadata=_LATER)
    bn_adaptation_samples: int | None = field(default=None, metadata=_LATER)
    nncf_config: str | None = field(default=None, metadata=_LATER)

    @property
    def timed(self) -> object:
        """Which operations are quantized, and to what: ranges and weights do not change the time.

        Where precisions are chosen a search judges quantized networks: then all options.
        """
        if self.precisions:
            return to_plain(self)
        usual = NncfOptions()
        told = {option.name: getattr(self, option.name) for option in fields(NncfOptions)}
        told |= {name: replace(told[name], range=None) for name in ("weights", "activations")}
        return {
            name: to_plain(value)
            for name, value in told.items()
            if name not in _CALIBRATION and value != getattr(usual, name)
        }

    def __post_init__(self) -> None:
        if self.nncf_config is not None:
            whole = filled_in(replace(self, nncf_config=None), read_nncf_config(self.nncf_config))
            for option in fields(self):
                if option.name != "nncf_config":
                    object.__setattr__(self, option.name, getattr(whole, option.name))
        super().__post_init__()
        if (
            self.weights.range
            and self.weights.range.by == "histogram"
            and self.weights.per_channel is not False
        ):
            raise ConfigError(
                "weights.range.by: NNCF makes histograms of tensors with one scale only; "
                "set weights.per_channel=false, or take 'minmax'"
            )
        if self.smooth_quant_alpha is not None:
            if self.smooth_quant_alpha != -1 and not 0 <= self.smooth_quant_alpha <= 1:
                raise ConfigError(
                    f"smooth_quant_alpha: expected 0 to 1, or -1, got {self.smooth_quant_alpha:g}"
                )
            if self.model_type is None:
                raise ConfigError(
                    "smooth_quant_alpha: NNCF smooths transformers only; set model_type=transformer, or leave it null"
                )
        if self.weights.mode == "asymmetric" and self.overflow_fix not in ("auto", "disable"):
            raise ConfigError(
                f"overflow_fix: expected disable or auto with asymmetric weights, got '{self.overflow_fix}'"
            )
        if self.bn_adaptation_samples is not None and self.bn_adaptation_samples < 0:
            raise ConfigError(f"bn_adaptation_samples: expected 0 or more, got {self.bn_adaptation_samples}")


def nncf_arguments(nncf: Any, options: NncfOptions, *, per_tensor: bool = False) -> dict[str, Any]:
    """`nncf.quantize`'s arguments for the options, but for the number of images and what is ignored.

    `nncf` is the package; `per_tensor`: weights have one scale, whatever the options say.
    """
    parameters = nncf.quantization.advanced_parameters
    further: dict[str, Any] = {}
    for name, tensor in (("activations", options.activations), ("weights", options.weights)):
        if tensor.range is not None:
            further[f"{name}_range_estimator_params"] = _range(nncf, tensor.range)
    fix: OverflowFix | None = overflow_fix(
        options.overflow_fix, device=options.target_device, asymmetric=options.weights.mode == "asymmetric"
    )
    if fix is not None:
        further["overflow_fix"] = parameters.OverflowFix(fix)
    if options.smooth_quant_alpha is not None:
        further["smooth_quant_alphas"] = parameters.AdvancedSmoothQuantParameters(
            matmul=options.smooth_quant_alpha
        )
    if options.quantize_outputs:
        further["quantize_outputs"] = True
    return {
        "preset": nncf.QuantizationPreset(options.preset),
        "target_device": nncf.TargetDevice(options.target_device.upper()),
        "fast_bias_correction": options.bias_correction == "fast",
        "model_type": None if options.model_type is None else nncf.ModelType(options.model_type),
        "advanced_parameters": parameters.AdvancedQuantizationParameters(
            disable_bias_correction=options.bias_correction == "none",
            activations_quantization_params=_parameters(nncf, options.activations),
            weights_quantization_params=_parameters(nncf, options.weights, per_tensor=per_tensor),
            **further,
        ),
    }


def say_notes(options: NncfOptions, example: Tensor) -> None:
    """Say, once in a process, what of the file `nncf_config` changes nothing here, and why; `example` is one input."""
    if options.nncf_config is None:
        return
    with suppress(ConfigError):  # the file may be gone by now: what it said is in the options
        read = read_nncf_config(options.nncf_config)
        for note in read.notes:
            say_once(f"{options.nncf_config}: {note}")
        if read.sample_size is not None and read.sample_size[1:] != tuple(example.shape[1:]):
            say_once(
                f"{options.nncf_config}: input_info.sample_size is {list(read.sample_size)}; the network takes "
                f"{[1, *example.shape[1:]]}, on which it is quantized"
            )


def refusal(error: Exception, options: NncfOptions, text: str) -> ExportError:
    """What to raise for an error of `nncf.quantize`; `text` is what it says, where it is not about the options."""
    if "incompatible" not in str(error) and "half_range" not in str(error):
        return ExportError(f"quantize: NNCF cannot quantize this network: {text}")
    asked = [
        f"{group}.{name}={value}"
        for group in ("weights", "activations")
        for name in ("mode", "signed", "per_channel")
        if (value := getattr(getattr(options, group), name)) is not None
    ]
    return ExportError(
        f"quantize: NNCF has no such INT8 for target_device={options.target_device}: {', '.join(asked) or text}; "
        "leave null what the device does not offer (signed, but for weights.signed=true; activations.per_channel)"
    )


def _parameters(nncf: Any, tensor: TensorOptions, *, per_tensor: bool = False) -> Any:
    """NNCF's QuantizationParameters; None: nothing is asked for."""
    parameters = nncf.quantization.advanced_parameters
    asked = {
        "mode": None if tensor.mode is None else parameters.QuantizationMode(tensor.mode),
        "signedness_to_force": tensor.signed,
        "per_channel": False if per_tensor else tensor.per_channel,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    return parameters.QuantizationParameters(**given) if given else None


def _range(nncf: Any, estimator: RangeEstimator) -> Any:
    ranges = nncf.quantization.range_estimator
    if estimator.by == "histogram":  # NNCF knows it by being equal to this one
        return ranges.RangeEstimatorParametersSet.HISTOGRAM
    low, high = _RANGES[estimator.by]
    beyond = (estimator.low_percent / 100, 1 - estimator.high_percent / 100)
    return ranges.RangeEstimatorParameters(
        *(
            ranges.StatisticsCollectorParameters(
                statistics_type=ranges.StatisticsType[statistic],
                aggregator_type=ranges.AggregatorType[aggregator],
                quantile_outlier_prob=outliers,
            )
            for (statistic, aggregator), outliers in zip((low, high), beyond, strict=True)
        )
    )
