"""Which network was timed: a digest of what it is made of, in whatever form a runtime has it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnas.errors import MeasureError
from bnas.export import Quantized
from bnas.measure.backends import Network


def fingerprint(network: Network) -> tuple[str, int]:
    """SHA-256 over the operations and weights of `network`, and the bytes of its weights (of its files).

    Raises:
        MeasureError: the network is in a form that is not known.
    """
    sha, size_bytes = hashlib.sha256(), 0
    for text, data in _parts(network):
        sha.update(text.encode())
        sha.update(data)
        size_bytes += len(data)
    return sha.hexdigest(), size_bytes


def _parts(network: Network) -> Iterator[tuple[str, bytes]]:
    """What the network is made of: texts, and the bytes of its weights."""
    if isinstance(network, nn.Module):
        yield repr(network), b""
        for name, tensor in network.state_dict().items():
            yield f"{name} {tensor.dtype} {tuple(tensor.shape)}", _bytes(tensor)
    elif isinstance(network, Path):
        for path in (network, network.with_suffix(".bin")):
            if path.exists():
                yield path.suffix, path.read_bytes()
    elif isinstance(network, Quantized) and hasattr(network.model, "get_ordered_ops"):
        yield from _operations(network.model)
    elif isinstance(network, Quantized) and hasattr(network.model, "SerializeToString"):
        yield "", network.model.SerializeToString(deterministic=True)
    else:
        raise MeasureError(f"a network of the type {type(network).__name__} has no digest")


def _operations(model: Any) -> Iterator[tuple[str, bytes]]:
    """Those of an `openvino.Model`. Names are left out: they count the networks of a process."""
    for node in model.get_ordered_ops():
        shapes = [str(output.get_partial_shape()) for output in node.outputs()]
        kind = f"{node.get_type_name()} {shapes}"
        yield kind, node.data.tobytes() if node.get_type_name() == "Constant" else b""


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
