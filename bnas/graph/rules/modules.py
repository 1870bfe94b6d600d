"""Rules for modules whose Python computes with its own sizes: what to keep in step after they have run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from torchvision.models.maxvit import RelativePositionalMultiHeadAttention
from torchvision.models.swin_transformer import ShiftedWindowAttention
from torchvision.models.video.mvit import MultiscaleAttention
from torchvision.models.vision_transformer import VisionTransformer
from torchvision.ops import MultiScaleRoIAlign

from bnas.graph.channels import Parts, coarsen, cut, fixed
from bnas.graph.rules.table import after_rule, module_rule
from bnas.graph.state import tensors_in
from bnas.graph.unify import unite

if TYPE_CHECKING:
    from bnas.graph.trace import Call, Trace


@after_rule(VisionTransformer)
def vision_transformer(trace: Trace, path: str, module: VisionTransformer, call: Call) -> None:
    """Its patches are reshaped to `hidden_dim`, the width of its tokens."""
    trace.follows("hidden_dim", trace.labels(module.conv_proj.weight)[0], path=path)


@after_rule(ShiftedWindowAttention)
def shifted_window_attention(trace: Trace, path: str, module: Any, call: Call) -> None:
    """The size of a head is computed as width ÷ heads: both shrink together, head by head."""
    _width_is_heads(trace, module.qkv, path, "num_heads", module.num_heads)


@after_rule(RelativePositionalMultiHeadAttention)
def relative_attention(trace: Trace, path: str, module: Any, call: Call) -> None:
    """What the heads compute is reshaped to the width that came in."""
    _width_is_heads(trace, module.to_qkv, path, "n_heads", module.n_heads)


@after_rule(MultiscaleAttention)
def multiscale_attention(trace: Trace, path: str, module: Any, call: Call) -> None:
    """What the heads compute is reshaped to `output_dim`."""
    label = _heads(trace, module.qkv, module.head_dim)
    trace.follows("num_heads", label, per=module.head_dim, path=path)
    trace.follows("output_dim", label, path=path)


def _heads(trace: Trace, qkv: nn.Linear, size: int) -> Parts:
    """The label of the queries, the first third of a joint projection, in heads of `size` channels."""
    third = qkv.out_features // 3
    pieces = cut(trace.labels(qkv.weight)[0], [third] * 3)
    heads = coarsen(pieces[0], size) if pieces else None
    return heads if heads is not None else fixed(third)


def _width_is_heads(trace: Trace, qkv: nn.Linear, path: str, name: str, heads: int) -> None:
    size = qkv.out_features // 3 // heads
    label = _heads(trace, qkv, size)
    unite(trace.labels(qkv.weight)[1], label, f"the attention {path}")
    trace.follows(name, label, per=size, path=path)


@module_rule(MultiScaleRoIAlign)
def roi_align(trace: Trace, path: str, module: nn.Module, call: Call) -> None:
    """Pools regions out of one of several maps, which all have the same channels: [K, C, h, w]."""
    maps = [tensor for tensor in tensors_in(call.args[0]) if tensor.shape[1] == call.out.shape[1]]
    channels = trace.labels(maps[0])[1]
    for tensor in maps[1:]:
        channels = unite(channels, trace.labels(tensor)[1], f"the regions of {path}")
    trace.mark(call.out, [fixed(call.out.shape[0]), channels, *map(fixed, call.out.shape[2:])])
