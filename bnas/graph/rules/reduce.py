"""Rules for functions that look along a whole axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from bnas.graph.channels import Parts, fixed, freeze
from bnas.graph.rules.elementwise import binary
from bnas.graph.rules.rearrange import contracted
from bnas.graph.rules.table import rule

if TYPE_CHECKING:
    from bnas.graph.trace import Call, Trace


@rule(
    "mean", "sum", "nansum", "nanmean", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean", "prod",
    "norm", "vector_norm", "linalg_vector_norm", "linalg_norm", "logsumexp", "count_nonzero", "all", "any",
    "median", "aminmax",
)  # fmt: skip
def reduce(trace: Trace, call: Call) -> None:
    """Reduced axes vanish, or keep one position. Over channels it is taken over those that are there."""
    if call.name in ("max", "min") and isinstance(call.get(1, "other"), Tensor):
        binary(trace, call)
        return
    x = call.tensors[0]
    place = 2 if call.name in ("norm", "vector_norm", "linalg_vector_norm", "linalg_norm") else 1
    dims = _dims(call.get(place, "dim", call.kwargs.get("axis")), x.ndim)
    for result in call.results:
        labels: list[Parts] = []
        for axis, label in enumerate(trace.labels(x)):
            if axis not in dims:
                labels.append(label)
                continue
            contracted(label, f"{call.name} in {trace.where}")
            if result.ndim == x.ndim:
                labels.append(fixed(1))
        trace.mark(result, labels)


@rule("normalize")
def normalize(trace: Trace, call: Call) -> None:
    """F.normalize: divides by the norm along `dim`."""
    x = call.get(0, "input")
    contracted(trace.labels(x)[call.get(2, "dim", 1)], f"normalize in {trace.where}")
    trace.mark(call.out, trace.labels(x))


@rule(
    "softmax",
    "log_softmax",
    "softmin",
    "argmax",
    "argmin",
    "sort",
    "argsort",
    "topk",
    "cumsum",
    "cumprod",
    "cummax",
    "cummin",
)
def along(trace: Trace, call: Call) -> None:
    """Depends on all entries along `dim`, and on their order or number."""
    x = call.tensors[0]
    labels = list(trace.labels(x))
    place = 2 if call.name == "topk" else 1
    dim = call.get(place, "dim", None if call.name in ("argmax", "argmin") else -1)
    for axis in range(x.ndim) if dim is None else (dim % x.ndim,):
        freeze(labels[axis], f"passes through {call.name} in {trace.where}")
        labels[axis] = fixed(x.shape[axis])
    for result in call.results:
        own = labels
        if result.ndim < x.ndim:
            own = [] if dim is None else [label for axis, label in enumerate(labels) if axis != dim % x.ndim]
        trace.mark(
            result,
            [label if n == old else fixed(n) for label, n, old in _sizes(own, result)],
        )


def _sizes(labels: list[Parts], result: Tensor) -> list[tuple[Parts, int, int]]:
    return [(label, n, sum(p.size for p in label)) for label, n in zip(labels, result.shape, strict=True)]


def _dims(dim: Any, ndim: int) -> list[int]:
    if dim is None or isinstance(dim, bool) or not isinstance(dim, (int, tuple, list)):
        return list(range(ndim))
    return [axis % ndim for axis in (dim if isinstance(dim, (tuple, list)) else (dim,))] or list(range(ndim))


@rule("tril", "triu")
def triangle(trace: Trace, call: Call) -> None:
    """Half of the square of the last two axes, whose positions it compares."""
    labels = trace.labels(call.tensors[0])
    for label in labels[-2:]:
        freeze(label, f"passes through {call.name} in {trace.where}")
    trace.mark(call.out, labels)


@rule(
    "fft_fft", "fft_ifft", "fft_rfft", "fft_irfft", "fft_fft2", "fft_ifft2", "fft_rfft2", "fft_irfft2",
    "fft_fftn", "fft_ifftn", "fft_rfftn", "fft_irfftn", "fft_fftshift", "fft_ifftshift",
)  # fmt: skip
def fourier(trace: Trace, call: Call) -> None:
    """Mixes the positions along some axes, and may change their number."""
    x = call.tensors[0]
    usual = (-2, -1) if call.name.endswith("2") else -1 if call.name.endswith("fft") else None
    dims = call.get(1 if call.name.endswith("shift") else 2, "dim")
    labels = list(trace.labels(x))
    for axis in _dims(usual if dims is None else dims, x.ndim):
        freeze(labels[axis], f"passes through {call.name} in {trace.where}")
        labels[axis] = fixed(call.out.shape[axis])
    trace.mark(call.out, labels)


@rule("view_as_complex", "view_as_real")
def complex_view(trace: Trace, call: Call) -> None:
    """A last axis of real and imaginary parts goes or comes."""
    labels = trace.labels(call.tensors[0])
    trace.mark(call.out, (*labels, fixed(2)) if call.name == "view_as_real" else labels[:-1])
