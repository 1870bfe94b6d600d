"""Post-training quantization by NNCF on the graph of `torch.export`: the INT8 network runs in PyTorch itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from bnas.errors import ConfigError, ExportError
from bnas.export import Quantized
from bnas.export.openvino_runtime import last_line, without_telemetry
from bnas.quantize.config import quantizer
from bnas.quantize.nncf_backend import images_of, nncf_torch, part_of_nncf, quiet
from bnas.quantize.nncf_ignored import fx_scope
from bnas.quantize.nncf_options import NncfOptions, nncf_arguments, refusal, say_notes


@dataclass(frozen=True, kw_only=True)
class NncfPTQFx(NncfOptions):
    """NNCF's `quantize` on a graph of `torch.export`, for `export=torch_export`;
    `bnas.export.torch_export.int8_kernels` is for its speed.
    """

    kind: Literal["nncf_ptq_fx"] = "nncf_ptq_fx"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_device == "cpu_spr":
            raise ConfigError(
                "target_device: NNCF has no cpu_spr for torch graphs; take cpu, or quantize=nncf_ptq"
            )
        if self.bn_adaptation_samples:
            raise ConfigError(
                "bn_adaptation_samples: batch norms are part of the convolutions in torch graphs; "
                "quantize=nncf_ptq_torch adapts them"
            )
        if self.precisions:
            raise ConfigError("precisions: of blocks they can be chosen with quantize=nncf_ptq only")


@quantizer(NncfPTQFx)
def quantize_nncf_ptq_fx(
    module: nn.Module, config: NncfPTQFx, calibration: Iterable[Tensor], example: Tensor
) -> Quantized:
    """A `torch.fx.GraphModule` with INT8 weights per channel that takes any number of images, where the module does.

    Raises:
        MissingPackageError: `nncf` or `torchao` is not installed.
    """
    nncf = nncf_torch()
    images = images_of(calibration, config.samples, example)
    say_notes(config, example)
    graph = graph_of(module, example)
    scope = fx_scope(nncf, graph, module, config.ignored)
    arguments = nncf_arguments(nncf, config)
    arguments["fast_bias_correction"] = config.bias_correction != "full"
    # NNCF's own form of small weights is one that inductor does not know for INT8
    arguments["advanced_parameters"].backend_params = {"compress_weights": False}
    with quiet("nncf"), without_telemetry():
        try:
            quantized = nncf.quantize(
                graph,
                nncf.Dataset(images),
                subset_size=len(images),
                ignored_scope=scope,
                **arguments,
            )
            fold_weights(quantized)
        except Exception as error:  # NNCF has no common class of errors
            why = f"{last_line(error)}; quantize=nncf_ptq does it on the OpenVINO graph"
            raise refusal(error, config, why) from error
    return Quantized(model=quantized.eval(), runtime="torch")


def graph_of(module: nn.Module, example: Tensor) -> fx.GraphModule:
    """`module`, in eval mode, as a graph of ATen's operations for any number of images, or for one.

    Raises:
        ExportError: `torch.export` cannot make one graph of it.
    """
    if any(layer.training for layer in module.modules()):
        raise ExportError("quantize: the network is in training mode; call .eval() on it first")
    image = example[:1].cpu()
    any_number: Any = ({0: torch.export.Dim.DYNAMIC},)
    with torch.no_grad(), quiet("torch.export", "torch._dynamo"):
        try:  # two images: torch takes a size of one for a constant
            exported = torch.export.export(module, (torch.cat([image, image]),), dynamic_shapes=any_number)
        except Exception:  # a number of images is built into the module
            try:
                exported = torch.export.export(module, (image,))
            except Exception as error:  # whatever the module's own forward raises
                why = f"torch.export cannot make one graph of this network: {_why(error)}"
                raise ExportError(f"quantize: {why}") from error
        graph = exported.module()
    assert isinstance(graph, fx.GraphModule)
    for node in graph.graph.find_nodes(op="call_module", target="_guards_fn"):
        graph.graph.erase_node(node)  # checks of inputs, which newer versions of torch put there
    graph.recompile()
    return graph


def fold_weights(graph: fx.GraphModule) -> None:
    """Put INT8 numbers in the place of FP32 weights that are quantized whenever the graph runs."""
    quantizing = part_of_nncf("experimental.torch.fx.transformations").QUANTIZE_NODE_TARGETS
    fold = part_of_nncf("experimental.torch.fx.constant_folding").constant_fold
    fold(graph, lambda node: node.op == "call_function" and node.target in quantizing)


def _why(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
