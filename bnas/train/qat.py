"""Quantization-aware training: a network trained on with NNCF's quantizers in place, taught by itself in FP32.

Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference", §3.
It is `finetune` of a module that has quantizers; here is what comes before and after.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bnas import progress
from bnas.data import ImageSplits
from bnas.export.artefact import digest_of
from bnas.plain import to_plain
from bnas.quantize.nncf_extension import Extension, arithmetic
from bnas.quantize.nncf_qat import NncfQAT
from bnas.quantize.nncf_torch import quantized_module, structure_of, with_structure
from bnas.train.checkpoint import Checkpoints, Position
from bnas.train.config import FinetuneConfig
from bnas.train.distributed import training_device
from bnas.train.evaluate import evaluate
from bnas.train.learners import finetune
from bnas.train.specialize import is_better
from bnas.train.task import TASKS

# Folders of checkpoints: of the quantized network that the training begins with, and of the training.
START, TRAINING = "start", "training"
# Options that leave the weights as they are.
_NO_EFFECT = frozenset({"device", "checkpoint_seconds", "extension"})
_SHARED = frozenset(FinetuneConfig.__dataclass_fields__) & frozenset(NncfQAT.__dataclass_fields__)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network with quantizers, after it was trained, or as NNCF quantized it where that made it no better.

    module: in eval mode, on the CPU; `bnas.quantize.nncf_torch.to_openvino` makes an INT8 network of it. metric: the
        task's, which `before` and `after` the training are values of. kept: whether it is as the training left it.
    """

    module: nn.Module = field(compare=False)
    metric: str
    before: float
    after: float
    kept: bool


def train_quantized(
    module: nn.Module,
    config: NncfQAT,
    calibration: Iterable[Tensor],
    example: Tensor,
    data: ImageSplits,
    *,
    seed: int,
    task: str = "classification",
    checkpoint: Path | None = None,
    tensorboard: Path | None = None,
    resolution: int | None = None,
) -> Trained:
    """Quantize `module`, which stays as it is and is the teacher, and train that on `data.train`.

    What becomes worse on `data.val` is left as NNCF quantized it.

    Args:
        calibration: batches of images [n, C, H, W] in the size that the network takes; `example` is one input.
        checkpoint: folder of the checkpoints; a training that was killed goes on there, and ends with the same
            bits (same machine and threads). None: no checkpoints.
        tensorboard, resolution: as in `finetune`.

    Raises:
        ExportError: NNCF cannot quantize the network.
        RunError: the checkpoints are of other options or of another network.
        DataError, ConfigError, ModelError, KeyboardInterrupt: as in `finetune`.
    """
    options = finetune_config(config, task)
    kinds: dict[str, Extension] = {"cpu": "never", training_device(config.device).type: config.extension}
    with ExitStack() as stack:
        for kind, extension in kinds.items():
            stack.enter_context(arithmetic(kind, extension))
        quantized = _begun(module, config, calibration, example, seed, checkpoint)
        start = {name: tensor.clone() for name, tensor in quantized.state_dict().items()}
        before = evaluate(quantized, data.val, task=task, resolution=resolution)
        finetune(
            quantized,
            data,
            options,
            seed=seed,
            checkpoint=checkpoint / TRAINING if checkpoint else None,
            tensorboard=tensorboard,
            teacher=module,
            resolution=resolution,
        )
        after = evaluate(quantized, data.val, task=task, resolution=resolution)
    kept = is_better(task, before, after)
    if not kept:
        quantized.load_state_dict(start)
    metric = TASKS[task].metric_name
    left = "" if kept else " (left as quantized)"
    progress.say(f"{metric} {before:.2f} quantized, {after:.2f} trained with quantizers{left}")
    return Trained(module=quantized.eval(), metric=metric, before=before, after=after, kept=kept)


def finetune_config(config: NncfQAT, task: str = "classification") -> FinetuneConfig:
    """The training that `config` asks for, in float32: the quantizers' steps are finer than bfloat16's.

    Raises:
        ConfigError: an option has a value that it cannot have.
    """
    shared: dict[str, Any] = {name: getattr(config, name) for name in _SHARED}
    return FinetuneConfig(**shared, decay={"__nncf_hooks.*": 0.0}, precision="float32", task=task)


def _begun(
    module: nn.Module,
    config: NncfQAT,
    calibration: Iterable[Tensor],
    example: Tensor,
    seed: int,
    folder: Path | None,
) -> nn.Module:
    """The quantized module that the training begins with: made now, or as it was when it was killed.

    The images are not looked at a second time: a training goes on with the very ranges that it was begun with.
    """
    used = {name: value for name, value in to_plain(config).items() if name not in _NO_EFFECT}
    weights = digest_of(*(own.cpu().contiguous().numpy().tobytes() for own in module.state_dict().values()))
    settings = {"quantize": used, "seed": seed, "network": weights}
    checkpoints = Checkpoints(folder / START if folder else None, settings, keep=1)
    _, state = checkpoints.load()
    if state is None:
        made = quantized_module(module, config, calibration, example)
        state = {"model": made.state_dict(), "structure": structure_of(made)}
        checkpoints.save(Position(), state)
    # The one that is gone on with and the one that was just made are built alike, and trained to the same bits.
    quantized = with_structure(deepcopy(module).cpu(), state["structure"])
    quantized.load_state_dict(state["model"])
    return quantized
