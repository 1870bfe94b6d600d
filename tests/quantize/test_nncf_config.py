from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bnas.errors import ConfigError
from bnas.plain import from_plain, to_plain
from bnas.quantize import NncfPTQ, QuantizeConfig
from bnas.quantize.nncf_config import filled_in, read_nncf_config
from bnas.quantize.nncf_options import Ignored, RangeEstimator, TensorOptions

RESNET: dict[str, Any] = {  # of the published ResNet-50 subnets
    "input_info": {"sample_size": [1, 3, 224, 224]},
    "device": "cuda:0",
    "compression": {
        "algorithm": "quantization",
        "initializer": {"range": {"num_init_samples": 850}},
    },
}
RETINANET: dict[str, Any] = {  # of the published RetinaNet subnets
    "input_info": {"sample_size": [1, 3, 800, 800]},
    "compression": {
        "algorithm": "quantization",
        "overflow_fix": "disable",
        "ignored_scopes": [
            "RetinaNet/__sub___0",
            "RetinaNet/__truediv___0",
            "RetinaNet/__getitem___1",
            "RetinaNet/interpolate_0",
            "RetinaNet/__getitem___2",
        ],
        "initializer": {
            "range": {"num_init_samples": 3840},
            "batchnorm_adaptation": {"num_bn_adaptation_samples": 0},
        },
        "weights": {"mode": "symmetric", "signed": True, "per_channel": False},
        "activations": {"mode": "symmetric"},
    },
    "target_device": "CPU",
}


def quantization(**options: Any) -> dict[str, Any]:
    return {"compression": {"algorithm": "quantization", **options}}


def refused(data: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        read_nncf_config(data)
    assert "\n" not in str(caught.value)


def test_the_published_resnet_configuration_is_read_as_it_is() -> None:
    read = read_nncf_config(RESNET)
    assert filled_in(NncfPTQ(), read) == NncfPTQ(samples=850, preset="performance")
    assert read.sample_size == (1, 3, 224, 224)
    told = {note.split(":")[0] for note in read.notes}
    assert told == {
        "device",
        "compression.preset is not given",
        "compression.overflow_fix is not given",
        "compression.initializer.batchnorm_adaptation is not given",
    }


def test_the_published_retinanet_configuration_is_read_as_it_is() -> None:
    read = read_nncf_config(RETINANET)
    assert filled_in(NncfPTQ(), read) == NncfPTQ(
        samples=3840,
        preset="performance",
        overflow_fix="disable",
        ignored=Ignored(scopes=tuple(RETINANET["compression"]["ignored_scopes"])),
        bn_adaptation_samples=0,
        weights=TensorOptions(mode="symmetric", signed=True, per_channel=False),
        activations=TensorOptions(mode="symmetric"),
        target_device="cpu",
    )
    assert [note.split(":")[0] for note in read.notes] == ["compression.preset is not given"]


def test_what_a_file_says_fills_in_options_that_are_at_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "nncf.json"
    path.write_text(json.dumps(RETINANET))
    data = {
        "kind": "nncf_ptq",
        "samples": 20,
        "weights": {"per_channel": True},
        "nncf_config": str(path),
    }
    config = from_plain(QuantizeConfig, data, "quantize")
    assert isinstance(config, NncfPTQ)
    assert (config.samples, config.preset, config.nncf_config) == (20, "performance", str(path))
    assert config.weights == TensorOptions(mode="symmetric", signed=True, per_channel=True)
    assert from_plain(QuantizeConfig, to_plain(config)) == config


def test_the_algorithm_alone_and_in_a_list_are_read() -> None:
    alone = {"algorithm": "quantization", "preset": "mixed"}
    for data in (alone, {"compression": alone}, {"compression": [alone]}):
        assert read_nncf_config(data).options["preset"] == "mixed"


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ({"preset": "mixed"}, {"preset": "mixed"}),
        ({"overflow_fix": "first_layer_only"}, {"overflow_fix": "first_layer_only"}),
        ({"disable_saturation_fix": True}, {"overflow_fix": "disable"}),
        ({"quantize_outputs": True}, {"quantize_outputs": True}),
        ({"quantize_inputs": True}, {}),
        ({"ignored_scopes": "{re}conv.*"}, {"ignored": {"scopes": ["{re}conv.*"]}}),
        ({"validate_scopes": False}, {"ignored": {"validate": False}}),
        ({"target_scopes": [], "scope_overrides": {}}, {}),
        ({"weights": {"bits": 8, "mode": "asymmetric"}}, {"weights": {"mode": "asymmetric"}}),
        ({"weights": {"mode": "asymmetric", "signed": True}}, {"weights": {"mode": "asymmetric"}}),
        ({"weights": {"signed": False, "ignored_scopes": []}}, {}),
        ({"activations": {"per_channel": False, "unified_scale_ops": []}}, {"activations": {"per_channel": False}}),
        ({"activations": {"signed": False, "logarithm_scale": True}}, {}),
        ({"initializer": {"batchnorm_adaptation": {"num_bn_adaptation_samples": 9}}}, {"bn_adaptation_samples": 9}),
        ({"initializer": {"precision": {"type": "manual", "bits": [8]}}}, {}),
        ({"export_to_onnx_standard_ops": True, "compression_lr_multiplier": 10, "params": {"base_lr": 1}}, {}),
    ],
)  # fmt: skip
def test_keys_of_the_algorithm_become_options(algorithm: dict[str, Any], expected: dict[str, Any]) -> None:
    options = dict(read_nncf_config(quantization(**algorithm)).options)
    assert {**expected, "samples": 256, "preset": expected.get("preset", "performance")} == options


def test_every_key_that_changes_nothing_has_a_note() -> None:
    data = {
        "input_info": [{"sample_size": [1, 3, 8, 8], "type": "float", "filler": "ones", "keyword": "x"}],
        "model": "resnet50",
        "epochs": 3,
        "log_dir": "x",
        "disable_shape_matching": True,
        **quantization(
            preset="mixed",
            overflow_fix="enable",
            export_to_onnx_standard_ops=True,
            params={"batch_multiplier": 4},
            weights={"logarithm_scale": False, "signed": False},
            initializer={
                "range": {"num_init_samples": 4},
                "batchnorm_adaptation": {"num_bn_adaptation_samples": 0, "num_bn_forget_samples": 9},
            },
        ),
    }
    assert [note.split(":")[0] for note in read_nncf_config(data).notes] == [
        "input_info.type",
        "input_info.filler",
        "input_info.keyword",
        "model",
        "epochs",
        "log_dir",
        "disable_shape_matching",
        "compression.export_to_onnx_standard_ops",
        "compression.params",
        "compression.weights.logarithm_scale",
        "compression.weights.signed",
        "compression.initializer.batchnorm_adaptation.num_bn_forget_samples",
    ]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mixed_min_max", None),
        ("min_max", {"by": "minmax"}),
        ("mean_min_max", {"by": "mean_minmax"}),
        ("mean_percentile", {"by": "mean_percentile", "low_percent": 1.0, "high_percent": 99.9}),
        ("percentile", {"by": "mean_percentile", "low_percent": 1.0, "high_percent": 99.9}),
    ],
)
def test_range_initializers(kind: str, expected: dict[str, Any] | None) -> None:
    range_ = {"type": kind, "num_init_samples": 5.0, "params": {"min_percentile": 1}}
    read = read_nncf_config(quantization(initializer={"range": range_}))
    assert read.options["weights"] == read.options["activations"] == {"range": expected}
    assert read.options["samples"] == 5
    assert any("image by image" in note for note in read.notes) == (kind == "percentile")


def test_a_list_of_ranges_is_for_weights_and_activations() -> None:
    rules = [
        {"type": "min_max", "target_quantizer_group": "weights", "num_init_samples": 999},
        {"type": "mean_percentile", "target_quantizer_group": "activations", "num_init_samples": 64},
    ]
    config = filled_in(NncfPTQ(), read_nncf_config(quantization(initializer={"range": rules})))
    assert config.weights.range == RangeEstimator(by="minmax")
    assert config.activations.range == RangeEstimator(
        by="mean_percentile", low_percent=0.1, high_percent=99.9
    )
    assert config.samples == 64
    rules.append({"type": "min_max", "target_quantizer_group": "activations"})
    refused(quantization(initializer={"range": rules}), r"range\[2\].*say one of them")


@pytest.mark.parametrize(
    ("algorithm", "text"),
    [
        ({"preset": "fast"}, r"compression\.preset: expected 'performance' or 'mixed', got 'fast'"),
        ({"presett": "mixed"}, r"compression\.presett: NNCF has no such key; did you mean 'preset'\?"),
        ({"weights": {"bits": 4}}, r"weights\.bits: expected 8"),
        ({"weights": {"mode": "log"}}, r"weights\.mode: expected 'symmetric' or 'asymmetric'"),
        ({"weights": {"ignored_scopes": ["a"]}}, r"weights\.ignored_scopes.*compression\.ignored_scopes"),
        ({"weights": {"per_channel": 1}}, r"weights\.per_channel: expected true or false, got 1"),
        ({"activations": {"signed": True}}, r"activations\.signed: NNCF 3 does not force it; leave it out"),
        ({"activations": {"unified_scale_ops": [["a"]]}}, r"unified_scale_ops: has no counterpart"),
        ({"activations": {"linked_quantizer_scopes": [["a"]]}}, r"linked_quantizer_scopes: has no counterpart"),
        ({"quantize_inputs": False}, r"quantize_inputs: .*ignored_scopes"),
        ({"target_scopes": ["a"]}, r"target_scopes: .*ignored_scopes"),
        ({"scope_overrides": {"weights": {"a": {}}}}, r"scope_overrides: .*quantize\.precisions"),
        ({"ignored_scopes": [1]}, r"ignored_scopes: expected a text or a list of texts"),
        ({"initializer": {"precision": {"type": "hawq", "bits": [4, 8]}}}, r"precision: 'hawq' .*precisions"),
        ({"initializer": {"range": {"type": "threesigma"}}}, r"threesigma|range\.type: has no counterpart"),
        ({"initializer": {"range": {"num_init_samples": 0}}}, r"num_init_samples: expected 1 or more"),
        ({"initializer": {"range": {"num_init_samples": True}}}, r"num_init_samples: expected a whole number"),
        ({"initializer": {"range": {"num_init_steps": 3}}}, r"num_init_steps: .*num_init_samples"),
        ({"initializer": {"range": {"params": {"min_percentile": 101}}}}, r"expected 0 to 100"),
        ({"initializer": {"range": [{"target_scopes": ["a"]}]}}, r"range\[0\]\.target_scopes: has no counterpart"),
        ({"initializer": {"range": [{"target_quantizer_group": "w"}]}}, r"expected weights or activations"),
        ({"overflow_fix": "yes"}, r"overflow_fix: expected 'enable' or 'disable' or 'first_layer_only'"),
    ],
)  # fmt: skip
def test_keys_and_values_that_have_no_counterpart_are_refused_by_name(
    algorithm: dict[str, Any], text: str
) -> None:
    refused(quantization(**algorithm), text)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, "compression: missing"),
        ({"compression": []}, "got it 0 times"),
        ({"compression": {}}, r"compression\.algorithm: missing"),
        ({"compression": {"algorithm": "filter_pruning"}}, "'filter_pruning' is no quantization; .*bnas build"),
        ({"compression": [{"algorithm": "quantization"}, {"algorithm": "rb_sparsity"}]}, r"\[1\].*'rb_sparsity'"),
        ({"compression": {"algorithm": "quantisation"}}, "did you mean 'quantization'"),
        ({"bootstrapNAS": {}, **quantization()}, "bootstrapNAS: .*bnas build"),
        ({"accuracy_aware_training": {"mode": "x"}, **quantization()}, r"accuracy_aware_training: .*precisions"),
        ({"target_device": "TRIAL", **quantization()}, "target_device: expected 'ANY' or"),
        ({"target_devise": "CPU", **quantization()}, "did you mean 'target_device'"),
        ({"input_info": [{}, {}], **quantization()}, "networks with one input"),
        ({"input_info": {"sample_size": [1, "3"]}, **quantization()}, "sample_size: expected a list of sizes"),
    ],
)  # fmt: skip
def test_other_sections_and_algorithms_are_refused_by_name(data: Any, text: str) -> None:
    refused(data, text)


def test_target_devices() -> None:
    for theirs, ours in {
        "ANY": "any",
        "CPU": "cpu",
        "CPU_SPR": "cpu_spr",
        "GPU": "gpu",
        "VPU": "npu",
    }.items():
        assert read_nncf_config({"target_device": theirs, **quantization()}).options["target_device"] == ours
    assert read_nncf_config({"hw_config_type": "cpu", **quantization()}).options["target_device"] == "cpu"


def test_comments_and_last_commas_are_read(tmp_path: Path) -> None:
    path = tmp_path / "nncf.json"
    path.write_text(
        """{ // of the sample program
        "log_dir": "http://x/*y*/", /* two
        lines */
        "compression": {"algorithm": "quantization", "preset": "mixed",
            "ignored_scopes": ["{re}a,]", "b // c",],
        },
    }"""
    )
    read = read_nncf_config(path)
    assert read.options["ignored"] == {"scopes": ["{re}a,]", "b // c"]}
    assert read.options["preset"] == "mixed"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"compression": // x\n 1 2}', "no JSON at line 2, column 4"),
        ('{"a": 1, "a": 2}', "the key 'a' is there twice"),
        ('{"a": NaN}', "NaN is no number in JSON"),
        ('{"a": 1 /* no end', "no JSON at line 1, column 9"),
        ("", "no JSON at line 1"),
        ("[]", "the whole: expected a mapping, got"),
        (
            '{"compression": {"algorithm": "quantization", "bits": 8}}',
            r"compression\.bits: NNCF has no such key",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "nncf.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"^quantize\.nncf_config: .*nncf\.json: .*{said}"):
        from_plain(QuantizeConfig, {"kind": "nncf_ptq", "nncf_config": str(path)}, "quantize")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nncf_config: .*none\.json: no such file"):
        NncfPTQ(nncf_config=str(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match="cannot be read"):
        NncfPTQ(nncf_config=str(tmp_path))
    (tmp_path / "latin.json").write_bytes(b"{'\xe4'}")
    with pytest.raises(ConfigError, match="UTF-8"):
        NncfPTQ(nncf_config=str(tmp_path / "latin.json"))


def test_adapting_batch_norms_is_left_to_other_quantizers(tmp_path: Path) -> None:
    path = tmp_path / "nncf.json"
    adapt = {"batchnorm_adaptation": {"num_bn_adaptation_samples": 200}}
    path.write_text(json.dumps(quantization(initializer=adapt)))
    with pytest.raises(ConfigError, match=r"bn_adaptation_samples: expected 0 or null .*nncf_qat"):
        NncfPTQ(nncf_config=str(path))
