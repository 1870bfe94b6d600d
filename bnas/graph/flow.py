"""Which layer's channels another layer reads, and what is done to them in between.

The labels of `trace` say which channels must keep the same members; this says more of fewer layers: which very channel
is at each place of a tensor. So each tensor carries, element by element, the number of the channel that it was computed
from. What only moves elements is applied to these numbers too, so whatever a model does to rearrange channels is
followed exactly; what computes must treat every channel alike and by itself, or the flow ends there, with a reason.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnas.errors import ModelError
from bnas.graph.checks import check_model
from bnas.graph.following import CONVOLUTIONS, FROZEN, NORMS, TRANSPOSED, Flow, Following, Link, following
from bnas.graph.state import tensors_within
from bnas.graph.trace import eval_mode


def flow(model: nn.Module, example: Tensor) -> Flow:
    """Run `model` once on `example` in eval mode, and write down what becomes of the output of each layer.

    The model is left as it was. One image is enough; what is learnt holds for all inputs of its shape. Followed are
    modules of torch's convolutions, transposed convolutions, linear layers and batch norms, and torchvision's frozen
    batch norm; a layer that shares its weights with another, or whose weights are computed, has no links.

    Raises:
        ModelError: the model does not run on the example, or cannot be followed (see `check_model`).
    """
    check_model(model)
    state = Following(model)
    with eval_mode(model), torch.no_grad():
        try:
            with following(model, state):
                output = model(example.detach())
        except Exception as error:
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"{type(model).__name__} does not run on an input of shape {list(example.shape)}: {text}"
            ) from error
        for tensor in {id(tensor): tensor for tensor in tensors_within(output)}.values():
            state.end(tensor, "is an output of the model")
    return state.facts()


__all__ = ["CONVOLUTIONS", "FROZEN", "NORMS", "TRANSPOSED", "Flow", "Link", "flow"]
