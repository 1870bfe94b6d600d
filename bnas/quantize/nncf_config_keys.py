"""What each key of NNCF 2's configuration means for the NNCF of today.

Source: its JSON schema (nncf/config/schemata of the versions 1.6 to 2.14), docs/compression_algorithms/Quantization.md.
To add a key: a rule in the table of its section.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnas.errors import ConfigError, did_you_mean
from bnas.quantize.nncf_config_ranges import NOT_BY_SCOPE, read_range
from bnas.quantize.nncf_config_rules import (
    Reading,
    Rule,
    changes_nothing,
    check,
    one_of,
    refused,
    section,
    typed,
)


def read_root(reading: Reading, data: Any) -> None:
    """Enter into `reading` what a configuration says: the whole, or that of one algorithm.

    Raises:
        ConfigError: an unknown key, a value that it cannot have, or a key that has no counterpart.
    """
    if isinstance(data, Mapping) and "algorithm" in data and "compression" not in data:
        data = {"compression": data}
    section(_ROOT)(reading, "", data)
    if "compression" not in data:
        raise ConfigError("compression: missing; expected {'algorithm': 'quantization', …}")


def _scopes(reading: Reading, where: str, value: Any) -> None:
    """`ignored_scopes`: a text or a list of texts."""
    scopes = [value] if isinstance(value, str) else value
    right = isinstance(scopes, (list, tuple)) and all(isinstance(scope, str) and scope for scope in scopes)
    check(right, where, "a text or a list of texts", value)
    reading.options["ignored.scopes"] = [*reading.options.get("ignored.scopes", ()), *scopes]


def _bits(reading: Reading, where: str, value: Any) -> None:
    if value != 8 or isinstance(value, bool):
        raise ConfigError(f"{where}: expected 8, as networks run in INT8 here, got {value!r}")


def _signed_weights(reading: Reading, where: str, value: Any) -> None:
    check(isinstance(value, bool), where, "true or false", value)
    if value:
        reading.set("weights.signed", True, where)
    else:
        reading.notes.append(f"{where}: weights of both signs are signed all the same, as in NNCF 2")


def _signed_activations(reading: Reading, where: str, value: Any) -> None:
    check(isinstance(value, bool), where, "true or false", value)
    if value:
        raise ConfigError(
            f"{where}: NNCF 3 does not force it; leave it out: what is negative anywhere is signed"
        )
    reading.notes.append(f"{where}: what is negative anywhere is signed all the same, as in NNCF 2")


def _sample_size(reading: Reading, where: str, value: Any) -> None:
    right = isinstance(value, (list, tuple)) and all(type(size) is int and size > 0 for size in value)
    check(right and bool(value), where, "a list of sizes", value)
    reading.sample_size = tuple(value)


def _input_info(reading: Reading, where: str, value: Any) -> None:
    if isinstance(value, (list, tuple)):
        if len(value) != 1:
            raise ConfigError(f"{where}: networks with one input are quantized here, got {len(value)}")
        value = value[0]
    section(_INPUT)(reading, where, value)


def _compression(reading: Reading, where: str, value: Any) -> None:
    several = isinstance(value, (list, tuple))
    algorithms = (
        {f"{where}[{index}]": item for index, item in enumerate(value)} if several else {where: value}
    )
    for path, algorithm in algorithms.items():
        check(isinstance(algorithm, Mapping), path, "a mapping", algorithm)
        name = algorithm.get("algorithm")
        if name in _OTHER_ALGORITHMS:
            raise ConfigError(f"{path}.algorithm: '{name}' is no quantization; {_OTHER_ALGORITHMS[name]}")
        if name != "quantization":
            known = ("quantization", *_OTHER_ALGORITHMS)
            told = "missing" if name is None else f"NNCF has no algorithm {name!r}"
            raise ConfigError(f"{path}.algorithm: {told}{did_you_mean(str(name), known)}")
    if len(algorithms) != 1:
        raise ConfigError(
            f"{where}: expected the algorithm 'quantization' once, got it {len(algorithms)} times"
        )
    for path, algorithm in algorithms.items():
        section(_QUANTIZATION)(reading, path, algorithm)


def _precision(reading: Reading, where: str, value: Any) -> None:
    """The choice of numbers of bits: 8 alone leaves nothing to choose."""
    check(isinstance(value, Mapping), where, "a mapping", value)
    if list(value.get("bits", ())) == [8] and not value.get("bitwidth_per_scope"):
        reading.notes.append(f"{where}: 8 bits are what there is, nothing is to be chosen")
        return
    raise ConfigError(
        f"{where}: {value.get('type', 'the choice of bits')!r} has no counterpart in NNCF 3; use "
        "quantize.precisions=[int8_tensor,int8_channel,fp32], among which search chooses for each block"
    )


_TRAINING = "it rules NNCF 2's training, which is not done here; quantize=nncf_qat has options of its own"
_SAMPLE_PROGRAM = "it is for NNCF 2's sample programs"

_OTHER_ALGORITHMS: dict[str, str] = {
    "filter_pruning": "narrower networks are found by `bnas build`, train and search with the dimension width",
    "magnitude_sparsity": "single weights of zero make no INT8 network faster; bnas searches for narrower ones",
    "rb_sparsity": "single weights of zero make no INT8 network faster; bnas searches for narrower ones",
    "const_sparsity": "leave it out: weights that are zero stay zero",
    "movement_sparsity": "single weights of zero make no INT8 network faster; bnas searches for narrower ones",
    "knowledge_distillation": "quantize=nncf_qat distils from the network in FP32 while it trains",
    "binarization": "nothing runs binary networks here; leave it out",
    "progressive_shrinking": "this is what `bnas build`, train and search do, by the sections space, train and search",
    "experimental_quantization": "use 'quantization'",
    "basic_quant_conv": "use 'quantization'",
    "basic_quant": "use 'quantization'",
}

_TARGET_DEVICES = {name: name.lower() for name in ("ANY", "CPU", "CPU_SPR", "GPU", "NPU")} | {"VPU": "npu"}

_INITIALIZER: dict[str, Rule] = {
    "range": read_range,
    "batchnorm_adaptation": section(
        {
            "num_bn_adaptation_samples": typed("bn_adaptation_samples", int),
            "num_bn_forget_samples": changes_nothing("statistics are made anew, nothing is to be forgotten"),
        }
    ),
    "precision": _precision,
}

_TENSOR: dict[str, Rule] = {
    "bits": _bits,
    "logarithm_scale": changes_nothing(_TRAINING),
    "ignored_scopes": refused(NOT_BY_SCOPE, unless=([],)),
    "target_scopes": refused(NOT_BY_SCOPE, unless=([],)),
}

_MODES = {"symmetric": "symmetric", "asymmetric": "asymmetric"}

_WEIGHTS: dict[str, Rule] = {
    **_TENSOR,
    "mode": one_of("weights.mode", _MODES),
    "signed": _signed_weights,
    "per_channel": typed("weights.per_channel", bool),
}

_UNIFIED = "NNCF 3 gives one scale to what is concatenated, and to nothing else; leave it out"

_ACTIVATIONS: dict[str, Rule] = {
    **_TENSOR,
    "mode": one_of("activations.mode", _MODES),
    "signed": _signed_activations,
    "per_channel": typed("activations.per_channel", bool),
    "unified_scale_ops": refused(_UNIFIED, unless=([],)),
    "linked_quantizer_scopes": refused(_UNIFIED, unless=([],)),
}

_OVERFLOW_FIX = {name: name for name in ("enable", "disable", "first_layer_only")}

_QUANTIZATION: dict[str, Rule] = {
    "algorithm": lambda reading, where, value: None,  # read by `_compression`
    "initializer": section(_INITIALIZER),
    "preset": one_of("preset", {"performance": "performance", "mixed": "mixed"}),
    "weights": section(_WEIGHTS),
    "activations": section(_ACTIVATIONS),
    "quantize_inputs": refused(
        "ignore the operations that read the input, by compression.ignored_scopes", unless=(True,)
    ),
    "quantize_outputs": typed("quantize_outputs", bool),
    "scope_overrides": refused(
        f"{NOT_BY_SCOPE}, or let search choose for each block by quantize.precisions",
        unless=({}, {"weights": {}}, {"activations": {}}, {"weights": {}, "activations": {}}),
    ),
    "export_to_onnx_standard_ops": changes_nothing(
        "export=onnx writes QuantizeLinear and DequantizeLinear in any case"
    ),
    "overflow_fix": one_of("overflow_fix", _OVERFLOW_FIX),
    "disable_saturation_fix": one_of("overflow_fix", {True: "disable", False: "enable"}),
    "params": changes_nothing(_TRAINING),
    "compression_lr_multiplier": changes_nothing(_TRAINING),
    "ignored_scopes": _scopes,
    "target_scopes": refused(
        "name what is to stay in FP32, by compression.ignored_scopes", unless=([], "{re}.*", ["{re}.*"])
    ),
    "validate_scopes": typed("ignored.validate", bool),
}

_INPUT: dict[str, Rule] = {
    "sample_size": _sample_size,
    "type": changes_nothing("networks take images as float32"),
    "filler": changes_nothing("networks are traced on an image of the data"),
    "keyword": changes_nothing("networks take the image as their one argument"),
}

_ROOT: dict[str, Rule] = {
    "input_info": _input_info,
    "target_device": one_of("target_device", _TARGET_DEVICES),
    "hw_config_type": one_of("target_device", {name.lower(): device for name, device in _TARGET_DEVICES.items()}),
    "compression": _compression,
    "ignored_scopes": _scopes,
    "target_scopes": _QUANTIZATION["target_scopes"],
    "validate_scopes": _QUANTIZATION["validate_scopes"],
    "quantizer_setup_type": refused("quantizers are placed as 'propagation_based' does", unless=("propagation_based",)),
    "accuracy_aware_training": refused("let search choose what stays in FP32, by quantize.precisions"),
    "bootstrapNAS": refused("this is what `bnas build`, train and search do, by the sections space, train and search"),
    "compression_lr_multiplier": changes_nothing(_TRAINING),
    "disable_shape_matching": changes_nothing("the graph is that of an image of the data"),
    "log_dir": changes_nothing("nothing is logged but what the run folder holds"),
    "device": changes_nothing("where NNCF 2 computed; here OpenVINO does, on the CPU"),
    **dict.fromkeys(
        (
            "batch_size", "checkpoint_save_dir", "cpu_only", "dataset", "dataset_dir", "epochs", "execution_mode",
            "gpu_id", "input_sample_size", "iter_size", "manual_seed", "metrics_dump", "mode", "model", "model_params",
            "multiprocessing_distributed", "name", "num_classes", "optimizer", "preprocessing", "pretrained",
            "print_freq", "resuming_checkpoint_path", "save_freq", "seed", "task", "test_every_n_epochs",
            "weights", "workers",
        ),
        changes_nothing(_SAMPLE_PROGRAM),
    ),
}  # fmt: skip
