"""Rules for products of two tensors, attention among them. The unit of an attention is the head."""

from __future__ import annotations

from math import prod
from string import ascii_letters
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from bnas.graph.channels import Parts, fixed, freeze, is_fixed, scaled, size, variable
from bnas.graph.rules.elementwise import broadcast, forget
from bnas.graph.rules.rearrange import contracted
from bnas.graph.rules.table import module_rule, rule
from bnas.graph.state import OpenLayer
from bnas.graph.unify import unite

if TYPE_CHECKING:
    from bnas.graph.trace import Call, Trace


@rule("matmul", "mm", "bmm", "mv", "dot", "vdot", "addmm", "addbmm", "baddbmm", "addmv")
def matmul(trace: Trace, call: Call) -> None:
    """[…, n, k] × […, k, m] → […, n, m]: what is summed over is united, as are the leading axes."""
    first = 1 if "add" in call.name else 0
    tensors = [tensor for tensor in call.tensors if tensor is not call.kwargs.get("out")]
    if len(tensors) != first + 2 or call.name == "addbmm":
        forget(trace, call, [label for tensor in tensors for label in trace.labels(tensor)])
        return
    a, b = tensors[first:]
    where = f"{call.name} in {trace.where}"
    k = _meet(trace.labels(a)[-1], trace.labels(b)[-2 if b.ndim > 1 else 0], where)
    lead = _leading(trace, [a, b], where)
    n, m = trace.labels(a)[-2:-1], trace.labels(b)[-1:] if b.ndim > 1 else ()
    if n and m and trace.origin(a) is not None:
        product(trace, call.name, k, n[0], (*lead, *m), a)
    elif n and m:
        product(trace, call.name, k, m[0], (*lead, *n), b)
    trace.mark(call.out, (*lead, *n, *m))
    if first:
        trace.mark(call.out, broadcast(trace, [tensors[0], call.out], call.out.ndim, where))


def _meet(a: Parts, b: Parts, where: str) -> Parts:
    for label in (a, b):
        contracted(label, where)
    return unite(a, b, where)


def _leading(trace: Trace, tensors: list[Tensor], where: str) -> tuple[Parts, ...]:
    """The common labels of all but the last two axes."""
    result: list[Parts] = []
    for axis in range(-max(tensor.ndim for tensor in tensors), -2):
        own = [(t.shape[axis], trace.labels(t)[axis]) for t in tensors if t.ndim >= -axis]
        full = [label for n, label in own if n == max(n for n, _ in own)]
        common = full[0]
        for label in full[1:]:
            common = unite(common, label, where)
        result.append(common)
    return tuple(result)


def product(
    trace: Trace,
    name: str,
    reads: Parts,
    writes: Parts,
    axes: tuple[Parts, ...],
    operand: Tensor | None = None,
) -> None:
    """Enter the multiply-accumulates of a product. `operand`: the one that has `writes`, and not `axes`; where
    it is a weight it makes channels as `linear` does."""
    weight = trace.origin(operand) if operand is not None else None
    name = trace.layer_name(weight, name) if weight is not None else trace.unique(trace.path, name)
    kept = tuple(label for label in axes if not is_fixed(label))
    positions = prod(size(label) for label in axes if is_fixed(label))
    kind = "linear" if weight is not None else "matmul"
    owner = type(trace.module).__name__
    trace.layer(
        OpenLayer(name, kind, reads, writes, positions, type=owner, axes=kept, makes=weight is not None)
    )


@rule("einsum")
def einsum(trace: Trace, call: Call) -> None:
    """One label per letter: equal letters are united, letters that vanish are summed over."""
    operands: list[Any] = list(call.args[1:])
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = list(operands[0])
    if not isinstance(call.args[0], str):
        forget(trace, call, [label for tensor in call.tensors for label in trace.labels(tensor)])
        return
    terms, output = _terms(call.args[0], [tensor.ndim for tensor in operands])
    where = f"einsum in {trace.where}"
    letters: dict[str, Parts] = {}
    for term, tensor in zip(terms, operands, strict=True):
        for letter, label in zip(term, trace.labels(tensor), strict=True):
            if letter not in output:
                contracted(label, where)
            if letter not in letters or size(letters[letter]) == 1:
                letters[letter] = label
            elif size(label) > 1:
                letters[letter] = unite(letters[letter], label, where)
    summed = [letter for letter in letters if letter not in output]
    if len(operands) == 2 and summed:
        own = [[letter for letter in output if letter in term and letter not in other] for term, other in
               ((terms[0], terms[1]), (terms[1], terms[0]))]  # fmt: skip
        side = 0 if own[0] and trace.origin(operands[0]) is not None else 1
        written = (own[side] or own[1 - side] or [""])[-1]
        rest = tuple(label for letter, label in letters.items() if letter not in (summed[0], written))
        writes = letters[written] if written else fixed(1)
        product(trace, "einsum", letters[summed[0]], writes, rest, operands[side] if own[side] else None)
    trace.mark(call.out, [letters[letter] for letter in output])


def _terms(equation: str, ndims: list[int]) -> tuple[list[str], str]:
    """The letters of every operand and of the result, with letters for `…` and for a result that is left out."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    unused = [letter for letter in ascii_letters if letter not in equation]
    count = max(n - len(term.replace("...", "")) for n, term in zip(ndims, inputs.split(","), strict=True))
    dots = "".join(unused[: max(count, 0)])
    terms = []
    for n, term in zip(ndims, inputs.split(","), strict=True):
        own = n - len(term.replace("...", ""))
        terms.append(term.replace("...", dots[len(dots) - own :]))
    if not arrow:
        everything = "".join(inputs.replace(".", "").split(","))
        output = "..." + "".join(sorted(letter for letter in everything if everything.count(letter) == 1))
    return terms, output.replace("...", dots)


@rule("scaled_dot_product_attention")
def attention(trace: Trace, call: Call) -> None:
    """softmax(q·kᵀ)·v over the last two axes; leading axes (heads) are united (Vaswani et al. 2017)."""
    q, k, v = call.get(0, "query"), call.get(1, "key"), call.get(2, "value")
    where = f"the attention in {trace.where}"
    d = _meet(trace.labels(q)[-1], trace.labels(k)[-1], where)
    contracted(trace.labels(v)[-1], where)
    for tensor in (k, v):
        if (
            call.kwargs.get("enable_gqa") and tensor.shape[-3] > 1
        ):  # each of their heads serves several of q's
            heads = scaled(trace.labels(tensor)[-3], q.shape[-3] // tensor.shape[-3], 1)
            unite(trace.labels(q)[-3], heads, where)
    lead = _leading(trace, [q, k, v], where)
    unite(trace.labels(k)[-2], trace.labels(v)[-2], where)
    mask = call.get(3, "attn_mask")
    if isinstance(mask, Tensor):
        scores = (*lead, trace.labels(q)[-2], trace.labels(k)[-2])
        for axis in range(-mask.ndim, 0):
            if mask.shape[axis] > 1:
                unite(trace.labels(mask)[axis], scores[axis], where)
    tokens, keys, last = trace.labels(q)[-2], trace.labels(k)[-2], trace.labels(v)[-1]
    product(trace, "attention_scores", d, keys, (*lead, tokens))
    product(trace, "attention_values", keys, last, (*lead, tokens))
    trace.mark(call.out, (*lead, tokens, last))


@module_rule(nn.MultiheadAttention)
def multihead_attention(trace: Trace, path: str, module: Any, call: Call) -> None:
    """torch's own attention divides its input's width by the heads, so both shrink together, head by head."""
    q, k, v = call.get(0, "query"), call.get(1, "key"), call.get(2, "value")
    heads, per = module.num_heads, module.head_dim
    unit = variable(heads)

    def heads_label() -> Parts:
        return tuple(part._replace(repeat=part.repeat * per) for part in unit)

    where = f"the attention {path}" if path else "the attention"
    if isinstance(module.in_proj_weight, Tensor):
        weights = [(module.in_proj_weight, 3)]
        for tensor in (q, k, v):
            unite(trace.labels(module.in_proj_weight)[1], trace.labels(tensor)[-1], where)
    else:
        weights = [(module.q_proj_weight, 1), (module.k_proj_weight, 1), (module.v_proj_weight, 1)]
        for (weight, _), tensor, width in zip(weights, (q, k, v), (None, "kdim", "vdim"), strict=True):
            unite(trace.labels(weight)[1], trace.labels(tensor)[-1], where)
            if width is not None:
                trace.follows(width, trace.labels(weight)[1], path=path)
    for weight, times in weights:
        unite(trace.labels(weight)[0], heads_label() * times, where)
    for tensor, times in ((module.in_proj_bias, 3), (module.bias_k, 1), (module.bias_v, 1)):
        if tensor is not None:
            unite(trace.labels(tensor)[-1], heads_label() * times, where)
    unite(trace.labels(q)[-1], heads_label(), where)
    mask = call.get(5, "attn_mask")
    if isinstance(mask, Tensor) and mask.ndim == 3:
        freeze(unit, f"has a mask for each head in {path}")
    out, inner = trace.labels(module.out_proj.weight)
    unite(inner, heads_label(), where)
    if module.out_proj.bias is not None:
        unite(trace.labels(module.out_proj.bias)[0], out, where)
    trace.follows("num_heads", unit, path=path)
    trace.follows("embed_dim", heads_label(), path=path)
    trace.follows("in_features", inner, path=_below(path, "out_proj"))
    trace.follows("out_features", out, path=_below(path, "out_proj"))
    if isinstance(module.in_proj_weight, Tensor):
        trace.follows("kdim", heads_label(), path=path)
        trace.follows("vdim", heads_label(), path=path)
    _enter_attention(trace, path, module, (q, k, v), heads_label(), unit, out)
    for result in call.results:
        labels = [fixed(n) for n in result.shape]
        if result is call.results[0]:
            labels = [*trace.labels(q)[:-1], out]
        trace.mark(result, labels)


def _enter_attention(
    trace: Trace,
    path: str,
    module: nn.MultiheadAttention,
    inputs: tuple[Tensor, Tensor, Tensor],
    width: Parts,
    heads: Parts,
    out: Parts,
) -> None:
    """The four projections and the two products of an attention, for the costs."""
    kind = type(module).__name__
    tokens = [tensor.numel() // tensor.shape[-1] for tensor in inputs]
    for name, tensor, positions in zip(("query", "key", "value"), inputs, tokens, strict=True):
        reads = trace.labels(tensor)[-1]
        layer = OpenLayer(
            _below(path, name), "linear", reads, width, positions, type=kind, makes=name == "query"
        )
        trace.layer(layer)
    batch = 1 if inputs[0].ndim == 2 else inputs[0].shape[0 if module.batch_first else 1]
    q, k = tokens[0] // batch, tokens[1] // batch
    d = fixed(module.head_dim)
    for name, reads, writes in (("scores", d, fixed(k)), ("values", fixed(k), d)):
        trace.layer(
            OpenLayer(_below(path, name), "matmul", reads, writes, q * batch, type=kind, axes=(heads,))
        )
    projection = OpenLayer(
        _below(path, "out_proj"), "linear", width, out, tokens[0], bias=True, type=kind, makes=True
    )
    trace.layer(projection)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
