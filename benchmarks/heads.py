"""What makes a network's output comparable: weights that let everything through, and heads without selection."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_HEADS = (
    "head",
    "rpn.head",
    "roi_heads.box_predictor",
    "roi_heads.mask_predictor",
    "roi_heads.keypoint_predictor",
)


class HeadsOnly(nn.Module):
    """A torchvision detector whose output is its heads' tensors.

    What follows them selects boxes by comparing scores: the last bit of a float decides which. So that the
    second stage sees the same boxes whatever the first says, its proposals are two fixed ones.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector
        modules = dict(detector.named_modules())
        self.heads = [name for name in _HEADS if name in modules]
        for name in self.heads:
            modules[name].register_forward_hook(_remember)
        if (rpn := modules.get("rpn")) is not None:
            rpn.filter_proposals = MethodType(_fixed_proposals, rpn)
            roi_heads = modules["roi_heads"]
            roi_heads.postprocess_detections = MethodType(_all_proposals, roi_heads)

    @staticmethod
    def fits(model: nn.Module) -> bool:
        """Whether `model` is a detector of torchvision."""
        return hasattr(model, "rpn") or hasattr(model, "postprocess_detections")

    def forward(self, images: list[Tensor]) -> list[Any]:
        self.detector(images)
        modules = dict(self.detector.named_modules())
        return [modules[name].__dict__.pop("seen") for name in self.heads]


def _remember(module: nn.Module, inputs: Any, output: Any) -> None:
    module.__dict__["seen"] = output


def _fixed_proposals(
    rpn: nn.Module, proposals: Tensor, objectness: Tensor, image_shapes: list[tuple[int, int]], *rest: Any
) -> tuple[list[Tensor], list[Tensor]]:
    boxes = [
        torch.tensor([[0.1 * w, 0.1 * h, 0.6 * w, 0.8 * h], [0.3 * w, 0.2 * h, w, h]])
        for h, w in image_shapes
    ]
    return boxes, [torch.ones(2) for _ in boxes]


def _all_proposals(
    roi_heads: nn.Module, class_logits: Tensor, box_regression: Tensor, proposals: list[Tensor], *rest: Any
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    ones = [torch.ones(len(boxes)) for boxes in proposals]
    return proposals, ones, [one.long() for one in ones]


@torch.no_grad()
def enliven(model: nn.Module, inputs: Any, seed: int = 0) -> None:
    """Random weights in place, such that every layer's output has a spread of about 1 on `inputs`.

    Fresh weights prove little: layer scales of 1e-6 and heads of zeros hide all that comes before, and
    without norms the values fade from layer to layer.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        if name.endswith("running_var"):
            uniform(tensor, 0.5, 1.5)
        elif name.endswith("running_mean"):
            uniform(tensor, -0.2, 0.2)
        elif isinstance(tensor, nn.Parameter) and (tensor.ndim == 1 or tensor.std(correction=0) < 1e-3):
            low, high = (-0.2, 0.2) if name.endswith("bias") else (0.5, 1.5)
            uniform(tensor, low, high)
    scaled: set[int] = set()

    def scale(module: nn.Module, arguments: Any, output: Tensor) -> Tensor | None:
        weight, spread = module.get_parameter("weight"), float(output.std(correction=0))
        if id(weight) in scaled or not spread > 1e-6:
            return None
        scaled.add(id(weight))
        weight.div_(spread)
        if (bias := getattr(module, "bias", None)) is not None:
            bias.div_(spread)
        return output / spread

    hooks = [m.register_forward_hook(scale) for m in model.modules() if isinstance(m, _LAYERS)]
    try:
        model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
