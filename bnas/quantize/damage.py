"""Whether a network's weights are numbers at all."""

from __future__ import annotations

from itertools import chain

import torch
from torch import nn

from bnas.errors import ExportError

_STATISTICS = ("running_mean", "running_var")


def check_weights(module: nn.Module) -> None:
    """Raise ExportError for a weight or a statistic of a norm that is NaN or infinite; it names the tensor.

    Other buffers may be infinite: masks of attention are.
    """
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if not tensor.is_floating_point():
            continue
        learnt = isinstance(tensor, nn.Parameter) or name.endswith(_STATISTICS)
        damaged = ~torch.isfinite(tensor) if learnt else torch.isnan(tensor)
        if damaged.any():
            kind = "NaN" if torch.isnan(tensor).any() else "infinite numbers"
            raise ExportError(
                f"quantize: the weights are damaged: {name} holds {kind} ({int(damaged.sum())} of {tensor.numel()} "
                "numbers); train it again, or load other weights"
            )
