"""The confs for detection say what MLPerf's submissions say."""

from __future__ import annotations

import pytest

from bnas.compose import compose
from bnas.config import RunConfig
from bnas.plain import from_plain
from bnas.quantize import NncfPTQ
from bnas.quantize.nncf_config import filled_in, read_nncf_config

# As published with BootstrapNAS' RetinaNet for MLPerf Inference v3.0, but for the names in its own graph.
SUBMITTED = {
    "input_info": {"sample_size": [1, 3, 800, 800]},
    "compression": {
        "algorithm": "quantization",
        "overflow_fix": "disable",
        "initializer": {
            "range": {"num_init_samples": 3840},
            "batchnorm_adaptation": {"num_bn_adaptation_samples": 0},
        },
        "weights": {"mode": "symmetric", "signed": True, "per_channel": False},
        "activations": {"mode": "symmetric"},
    },
    "target_device": "CPU",
}


def composed(conf: str) -> RunConfig:
    overrides = [] if conf == "detection" else ["data.root=somewhere"]
    return from_plain(RunConfig, compose(conf, overrides))


def test_retinanet_is_quantized_as_submitted() -> None:
    read = read_nncf_config(SUBMITTED)
    assert composed("retinanet").quantize == filled_in(NncfPTQ(), read)
    assert read.sample_size is not None
    assert composed("retinanet").data.size == read.sample_size[-1]


@pytest.mark.parametrize(
    ("conf", "model", "data", "size"),
    [
        ("retinanet", "retinanet", "openimages_mlperf", 800),
        ("ssd_resnet34", "ssd_resnet34", "coco", 1200),
        ("detection", "retinanet", "composed_scenes", 128),
    ],
)
def test_what_is_detected_in_what(conf: str, model: str, data: str, size: int) -> None:
    config = composed(conf)
    assert (config.model.name, config.data.name, config.data.size) == (model, data, size)
    assert {config.train.task, config.pretrain.task, config.finetune.task} == {"detection"}
    assert config.search.objectives == ("map_percent", "latency_ms")
    assert {dim for stage in config.train.stages for dim in stage.dims} == set(config.space.dims)
