"""bnas: a pretrained PyTorch network in, a family of measured INT8 subnetworks out.

The whole product in Python is in the README; the architecture is in docs/design.md. Names are imported when
they are first used, so that `import bnas` is quick and needs no optional package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bnas.version import __version__ as __version__

if TYPE_CHECKING:  # export, quantize, search and train are packages that can be called
    from bnas.commands.extract import extract_subnet, rebuild
    from bnas.data import DataConfig, load_data
    from bnas.errors import BnasError
    from bnas.export import (
        AimetEncodings,
        Artefact,
        Onnx,
        OpenVinoIR,
        Preprocess,
        TorchExport,
        TorchScript,
        verify,
    )
    from bnas.graph import ChannelGraph, trace
    from bnas.load import LoadConfig
    from bnas.measure import HwConfig, LatencyModel, MeasureConfig, Measurement, fit_latency
    from bnas.measure.campaign import campaign
    from bnas.models import ModelConfig, load_model
    from bnas.quantize import Aimet, NncfPTQ, NncfPTQFx, NncfPTQTorch, NncfQAT, OnnxQdq
    from bnas.report import Report
    from bnas.search import Candidate, Objective, ParetoFront, SearchConfig
    from bnas.space import Choice, SearchSpace, SpaceRules, SubnetConfig, derive_space
    from bnas.supernet import Supernet, reorder_channels
    from bnas.train import (
        FeatureMatch,
        FinetuneConfig,
        PretrainConfig,
        Stage,
        TrainConfig,
        finetune,
        pretrain,
        recalibrate,
    )
    from bnas.train.evaluate import evaluate
    from bnas.train.specialize import Specialized, specialize

_HOMES = {
    "bnas.commands.extract": ("extract_subnet", "rebuild"),
    "bnas.data": ("DataConfig", "load_data"),
    "bnas.errors": ("BnasError",),
    "bnas.export": (
        "AimetEncodings",
        "Artefact",
        "Onnx",
        "OpenVinoIR",
        "Preprocess",
        "TorchExport",
        "TorchScript",
        "export",
        "verify",
    ),
    "bnas.graph": ("ChannelGraph", "trace"),
    "bnas.measure": ("HwConfig", "LatencyModel", "MeasureConfig", "Measurement", "campaign", "fit_latency"),
    "bnas.models": ("ModelConfig", "load_model"),
    "bnas.load": ("LoadConfig",),
    "bnas.quantize": (
        "Aimet",
        "NncfPTQ",
        "NncfPTQFx",
        "NncfPTQTorch",
        "NncfQAT",
        "OnnxQdq",
        "quantize",
    ),
    "bnas.report": ("Report",),
    "bnas.search": ("Candidate", "Objective", "ParetoFront", "SearchConfig", "search"),
    "bnas.space": ("Choice", "SearchSpace", "SpaceRules", "SubnetConfig", "derive_space"),
    "bnas.supernet": ("Supernet", "reorder_channels"),
    "bnas.train.specialize": ("Specialized", "specialize"),
    "bnas.train": (
        "FeatureMatch",
        "FinetuneConfig",
        "PretrainConfig",
        "Stage",
        "TrainConfig",
        "evaluate",
        "finetune",
        "pretrain",
        "recalibrate",
        "train",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Aimet",
    "AimetEncodings",
    "Artefact",
    "BnasError",
    "Candidate",
    "ChannelGraph",
    "Choice",
    "DataConfig",
    "FeatureMatch",
    "FinetuneConfig",
    "HwConfig",
    "LatencyModel",
    "LoadConfig",
    "MeasureConfig",
    "Measurement",
    "ModelConfig",
    "NncfPTQ",
    "NncfPTQFx",
    "NncfPTQTorch",
    "NncfQAT",
    "Objective",
    "Onnx",
    "OnnxQdq",
    "OpenVinoIR",
    "ParetoFront",
    "Preprocess",
    "PretrainConfig",
    "Report",
    "SearchConfig",
    "SearchSpace",
    "SpaceRules",
    "Specialized",
    "Stage",
    "SubnetConfig",
    "Supernet",
    "TorchExport",
    "TorchScript",
    "TrainConfig",
    "campaign",
    "derive_space",
    "evaluate",
    "export",
    "extract_subnet",
    "finetune",
    "fit_latency",
    "load_data",
    "load_model",
    "pretrain",
    "quantize",
    "rebuild",
    "recalibrate",
    "reorder_channels",
    "search",
    "specialize",
    "trace",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bnas' has no attribute '{name}'")
    home = importlib.import_module(_HOME[name])
    # `bnas.train` is the package itself, which can be called like its function (see callable_package).
    return home if _HOME[name] == f"bnas.{name}" else getattr(home, name)
