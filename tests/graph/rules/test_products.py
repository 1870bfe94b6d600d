"""Products of two tensors, attention among them: the unit of an attention is the head."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nets import attributes, checked, conv, facts, free, groups, layers, parameter, weights, why
from torch import Tensor, nn
from torch.nn import functional as F

HEADS, SIZE, WIDTH = 4, 3, 12  # WIDTH = HEADS · SIZE; tokens are [2, 5, 8]


@pytest.mark.parametrize(
    ("product", "weight"),
    [
        (lambda m, x: x @ m.w, (8, 6)),
        (lambda m, x: x.matmul(m.w.t()), (6, 8)),
        (lambda m, x: torch.addmm(m.bias, x, m.w), (8, 6)),
        (lambda m, x: torch.mm(x, m.w), (8, 6)),
        (lambda m, x: (m.w @ x.t()).t(), (6, 8)),
        (lambda m, x: torch.einsum("nc,co->no", x, m.w), (8, 6)),
        (lambda m, x: torch.einsum("oc, nc -> no", m.w, x), (6, 8)),
        (lambda m, x: torch.einsum("...c,co", x, m.w), (8, 6)),
        (lambda m, x: torch.einsum("nc,co->no", [x, m.w]), (8, 6)),
    ],
)
def test_a_bare_weight_makes_channels(product: Callable[..., Tensor], weight: tuple[int, int]) -> None:
    graph = facts(
        lambda m, x: m.b(product(m, m.a(x))), 2, 5,
        a=nn.Linear(5, 8), w=parameter(*weight), bias=parameter(6), b=nn.Linear(6, 4),
    )  # fmt: skip
    assert free(graph) == {"a": "8", "w": "6"}
    assert layers(graph) == {"a": "5 → a:8", "w": "a:8 → w:6", "b": "w:6 → b:4"}
    assert weights(graph, "w") == {"w": ["a:8", "w:6"] if weight == (8, 6) else ["w:6", "a:8"]}
    assert (graph.layer_by_name["w"].kind, graph.layer_by_name["w"].positions) == ("linear", 1)


def test_a_vector() -> None:
    graph = facts(lambda m, x: m.a(x) @ m.w + torch.mv(m.a(x), m.w), 2, 5, a=nn.Linear(5, 8), w=parameter(8))
    assert free(graph) == {"a": "8"}
    assert weights(graph, "w") == {"w": ["a:8"]}


def test_channels_summed_over_are_united() -> None:
    graph = facts(
        lambda m, x: m.c(m.a(x) @ m.b(x).mT),
        2,
        5,
        8,
        a=nn.Linear(8, 6),
        b=nn.Linear(8, 6),
        c=nn.Linear(5, 4),
    )
    assert free(graph) == {"a": "6"}
    assert layers(graph) == {"a": "8 → a:6", "b": "8 → a:6", "matmul": "a:6 → 5", "c": "5 → c:4"}
    assert (graph.layer_by_name["matmul"].kind, graph.layer_by_name["matmul"].positions) == ("matmul", 5)


def test_einsum_without_a_sum_scales() -> None:
    graph = facts(
        lambda m, x: m.b(torch.einsum("nchw,c->nchw", m.a(x), m.w)),
        a=conv(3, 8),
        w=parameter(8),
        b=conv(8, 4),
    )
    assert layers(graph) == {"a": "3 → a:8", "b": "a:8 → b:4"}
    assert weights(graph, "w") == {"w": ["a:8"]}


class Attention(nn.Module):
    """Attention of 4 heads of 3, written in many ways; tokens [n, l, 8] → [n, l, 8]."""

    def __init__(self, to_qkv: str, product: str, back: str = "flatten") -> None:
        super().__init__()
        self.num_heads, self.head_dim = HEADS, SIZE
        self.to_qkv, self.product, self.back = to_qkv, product, back
        if to_qkv == "separate":
            self.q, self.k, self.v = (nn.Linear(8, WIDTH) for _ in range(3))
        else:
            self.qkv = nn.Linear(8, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, 8)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each [n, heads, l, head_dim]."""
        n, length, _ = x.shape
        if self.to_qkv == "separate":
            q, k, v = (
                (own(x)).view(n, length, self.num_heads, -1).transpose(1, 2)
                for own in (self.q, self.k, self.v)
            )
        elif self.to_qkv == "three first":
            q, k, v = self.qkv(x).reshape(n, length, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        elif self.to_qkv == "heads first":
            q, k, v = self.qkv(x).view(n, length, self.num_heads, 3, -1).permute(3, 0, 2, 1, 4).unbind(0)
        elif self.to_qkv == "chunks":
            q, k, v = (own.unflatten(-1, (-1, SIZE)).transpose(1, 2) for own in self.qkv(x).chunk(3, -1))
        elif self.to_qkv == "chunks of heads":
            q, k, v = self.qkv(x).view(n, length, self.num_heads, -1).transpose(1, 2).chunk(3, dim=-1)
        else:
            raise ValueError(self.to_qkv)
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(x)
        if self.product == "matmul":
            y = (q @ k.transpose(-2, -1) * SIZE**-0.5).softmax(dim=-1) @ v
        elif self.product == "einsum":
            scores = torch.einsum("bhid,bhjd->bhij", q, k).softmax(-1)
            y = torch.einsum("bhij,bhjd->bhid", scores, v)
        elif self.product == "bmm":
            a, b, c = (t.flatten(0, 1) for t in (q, k, v))
            y = torch.bmm(torch.bmm(a, b.transpose(1, 2)).softmax(-1), c).unflatten(0, (len(x), -1))
        elif self.product == "linear":  # k and v first (Katharopoulos et al. 2020)
            y = q.softmax(-1) @ (k.softmax(-2).transpose(-2, -1) @ v)
        else:
            y = F.scaled_dot_product_attention(q, k, v)
        y = y.transpose(1, 2)
        return self.out(
            y.flatten(2) if self.back == "flatten" else y.reshape(len(x), -1, self.num_heads * SIZE)
        )


def attention(**options: str) -> dict[str, object]:
    return {"at": Attention(**options), "a": nn.Linear(6, 8), "b": nn.Linear(8, 4)}


@pytest.mark.parametrize("product", ["matmul", "einsum", "bmm", "linear", "sdpa"])
@pytest.mark.parametrize("to_qkv", ["separate", "three first", "heads first", "chunks", "chunks of heads"])
def test_own_attention(to_qkv: str, product: str) -> None:
    """However it is written: 4 heads are elastic, their size of 3 is not."""
    graph = facts(
        lambda m, x: m.b(m.a(x) + m.at(m.a(x))), 2, 5, 6, **attention(to_qkv=to_qkv, product=product)
    )
    first = "at.q" if to_qkv == "separate" else "at.qkv"
    assert {name: units for name, units in free(graph).items() if name.startswith("at")} == {
        first: "4x9" if "heads" in to_qkv else "4x3"
    }
    assert free(graph)["a"] == "8"
    queries = f"{first}:4x3"
    shown = layers(graph)
    assert shown["at.out"] == f"{queries} → a:8"
    if to_qkv == "separate":
        assert {shown["at.q"], shown["at.k"], shown["at.v"]} == {f"a:8 → {queries}"}
    elif "heads" in to_qkv:
        assert shown["at.qkv"] == "a:8 → at.qkv:4x9"
    else:
        assert shown["at.qkv"] == f"a:8 → {queries} + {queries} + {queries}"
    assert attributes(graph)["at.num_heads"] == f"{first}:4"
    products = [layer for layer in graph.layers if layer.kind == "matmul"]
    assert [(layer.positions, len(layer.axes)) for layer in products] == (
        [(3, 1), (5, 1)] if product == "linear" else [(5, 1), (5, 1)]
    )


def test_reshaped_back_by_the_number_of_heads() -> None:
    graph = facts(
        lambda m, x: m.b(m.at(m.a(x))), 2, 5, 6,
        **attention(to_qkv="three first", product="sdpa", back="number of heads"),
    )  # fmt: skip
    assert free(graph)["at.qkv"] == "4x3"


def test_attention_of_three_heads_is_not_mistaken_for_q_k_and_v() -> None:
    class Three(Attention):
        def __init__(self) -> None:
            super().__init__("heads first", "matmul")
            self.num_heads = 3
            self.qkv, self.out = nn.Linear(8, 27), nn.Linear(9, 8)

    graph = facts(lambda m, x: m.b(m.at(x)), 2, 5, 8, at=Three(), b=nn.Linear(8, 4))
    assert free(graph)["at.qkv"] == "3x9"
    assert attributes(graph)["at.num_heads"] == "at.qkv:3"


class Gpt(nn.Module):
    """nanoGPT's: `view(B, T, C)` ties the heads to the width that came in."""

    def __init__(self) -> None:
        super().__init__()
        self.n_head = 4
        self.c_attn, self.c_proj = nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.size()
        q, k, v = self.c_attn(x).chunk(3, dim=2)
        q, k, v = (t.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


def test_width_and_heads_of_one_number() -> None:
    graph = facts(
        lambda m, x: m.b(m.a(x) + m.at(m.a(x))), 2, 5, 6, a=nn.Linear(6, 12), at=Gpt(), b=nn.Linear(12, 4)
    )
    assert free(graph) == {"a": "4x3"}
    assert layers(graph)["at.c_attn"] == "a:4x3 → a:4x3 + a:4x3 + a:4x3"
    assert attributes(graph)["at.n_head"] == "a:4"


def split_heads(x: Tensor, size: int) -> Tensor:
    return x.unflatten(-1, (-1, size)).transpose(1, 2)


def test_grouped_query_attention() -> None:
    """Each of 2 heads of k and v serves two of q's 4."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        q, k, v = (split_heads(own(x), 3) for own in (m.q, m.k, m.v))
        return m.out(F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).flatten(2))

    graph = facts(
        forward, 2, 5, 8, q=nn.Linear(8, 12), k=nn.Linear(8, 6), v=nn.Linear(8, 6), out=nn.Linear(12, 4)
    )
    assert free(graph) == {"q": "2x6"}
    assert layers(graph)["k"] == layers(graph)["v"] == "8 → q:2x3"


def test_repeated_keys_and_values() -> None:
    """The same by hand (Llama's repeat_kv)."""

    def repeat(x: Tensor) -> Tensor:
        n, heads, length, size = x.shape
        return x[:, :, None].expand(n, heads, 2, length, size).reshape(n, heads * 2, length, size)

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        q, k, v = (split_heads(own(x), 3) for own in (m.q, m.k, m.v))
        return m.out(F.scaled_dot_product_attention(q, repeat(k), repeat(v)).transpose(1, 2).flatten(2))

    graph = facts(
        forward, 2, 5, 8, q=nn.Linear(8, 12), k=nn.Linear(8, 6), v=nn.Linear(8, 6), out=nn.Linear(12, 4)
    )
    assert free(graph) == {"q": "2x6"}
    assert layers(graph)["k"] == "8 → q:2x3"


def test_attention_of_one_head() -> None:
    """Its size is like any other width: of q and k one, of v another."""
    graph = facts(
        lambda m, x: m.out(F.scaled_dot_product_attention(m.q(x), m.k(x), m.v(x))), 2, 5, 8,
        q=nn.Linear(8, 6), k=nn.Linear(8, 6), v=nn.Linear(8, 10), out=nn.Linear(10, 4),
    )  # fmt: skip
    assert free(graph) == {"q": "6", "v": "10"}
    assert layers(graph)["attention_scores"] == "q:6 → 5"
    assert layers(graph)["attention_values"] == "5 → v:10"


def test_a_bias_for_each_head() -> None:
    """Relative position bias [heads, 5, 5]: its first axis follows the heads."""

    class Biased(Attention):
        def __init__(self) -> None:
            super().__init__("three first", "")
            self.table = parameter(HEADS, 5, 5)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.heads(x)
            y = (q @ k.mT + self.table).softmax(-1) @ v
            return self.out(y.transpose(1, 2).flatten(2))

    class Masked(Biased):
        def forward(self, x: Tensor) -> Tensor:
            y = F.scaled_dot_product_attention(*self.heads(x), attn_mask=self.table)
            return self.out(y.transpose(1, 2).flatten(2))

    for kind in (Biased, Masked):
        graph = facts(lambda m, x: m.b(m.at(x)), 2, 5, 8, at=kind(), b=nn.Linear(8, 4))
        assert free(graph)["at.qkv"] == "4x3"
        assert weights(graph, "at.table") == {"at.table": ["at.qkv:4", "5", "5"]}


def test_cross_covariance_attention() -> None:
    """XCiT (El-Nouby et al. 2021): softmax over the size of each head; the heads are elastic."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        q, k, v = m.qkv(x).view(2, 5, 3, -1, 3).permute(2, 0, 3, 4, 1)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        y = ((q @ k.transpose(-2, -1)) * m.temperature).softmax(-1) @ v
        return m.out(y.permute(0, 3, 1, 2).flatten(2))

    graph = facts(
        forward, 2, 5, 8, qkv=nn.Linear(8, 36), temperature=parameter(4, 1, 1), out=nn.Linear(12, 4)
    )
    assert free(graph) == {"qkv": "4x3"}
    assert weights(graph, "temperature") == {"temperature": ["qkv:4", "1", "1"]}


@pytest.mark.parametrize("batch_first", [True, False])
def test_multihead_attention(batch_first: bool) -> None:
    """Its own Python divides the width by the heads: the input's width goes head by head."""
    graph = facts(
        lambda m, x: m.b(m.at(m.a(x), m.a(x), m.a(x), need_weights=False)[0]), 2, 5, 6,
        a=nn.Linear(6, 8), at=nn.MultiheadAttention(8, 4, batch_first=batch_first), b=nn.Linear(8, 4),
    )  # fmt: skip
    assert free(graph) == {"a": "4x2", "at.out_proj": "8"}
    wide = "a:4x2"
    length = 5 if batch_first else 1  # of the one item that is traced
    assert layers(graph) == {
        "a": f"6 → {wide}",
        "at.query": f"{wide} → {wide}",
        "at.key": f"{wide} → {wide}",
        "at.value": f"{wide} → {wide}",
        "at.scores": f"2 → {length}",
        "at.values": f"{length} → 2",
        "at.out_proj": f"{wide} → at.out_proj:8",
        "b": "at.out_proj:8 → b:4",
    }
    assert weights(graph, "at.in_proj_weight", "at.in_proj_bias", "at.out_proj.weight") == {
        "at.in_proj_weight": [f"{wide} + {wide} + {wide}", wide],
        "at.in_proj_bias": [f"{wide} + {wide} + {wide}"],
        "at.out_proj.weight": ["at.out_proj:8", wide],
    }
    assert {name: label for name, label in attributes(graph).items() if name.startswith("at.")} == {
        "at.num_heads": "a:4", "at.embed_dim": wide, "at.kdim": wide, "at.vdim": wide,
        "at.out_proj.in_features": wide, "at.out_proj.out_features": "at.out_proj:8",
    }  # fmt: skip
    scores = graph.layer_by_name["at.scores"]
    assert scores.positions == 5
    assert [(s.group, s.units) for s in scores.axes[0]] == [("a", 4)]


def test_multihead_attention_with_other_keys_and_values() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return m.b(m.at(m.q(x), m.k(x), m.v(x))[0])

    graph = facts(
        forward, 2, 5, 6,
        q=nn.Linear(6, 8), k=nn.Linear(6, 7), v=nn.Linear(6, 10), b=nn.Linear(8, 4),
        at=nn.MultiheadAttention(8, 2, kdim=7, vdim=10, batch_first=True, add_bias_kv=True),
    )  # fmt: skip
    assert free(graph) == {"q": "2x4", "k": "7", "v": "10", "at.out_proj": "8"}
    found = weights(graph)
    assert found["at.q_proj_weight"] == ["q:2x4", "q:2x4"]
    assert found["at.k_proj_weight"] == ["q:2x4", "k:7"]
    assert found["at.v_proj_weight"] == ["q:2x4", "v:10"]
    assert found["at.bias_k"] == found["at.bias_v"] == ["1", "1", "q:2x4"]
    assert attributes(graph)["at.kdim"] == "k:7"
    assert attributes(graph)["at.vdim"] == "v:10"


def test_a_mask_for_each_head_freezes_the_heads() -> None:
    graph = facts(
        lambda m, x: m.b(m.at(m.a(x), m.a(x), m.a(x), attn_mask=torch.zeros(4 * len(x), 5, 5))[0]), 2, 5, 6,
        a=nn.Linear(6, 8), at=nn.MultiheadAttention(8, 4, batch_first=True), b=nn.Linear(8, 4),
    )  # fmt: skip
    assert why(graph, "a") == "has a mask for each head in at"


def test_a_model_that_is_an_attention() -> None:
    x = torch.randn(5, 1, 8)
    graph = checked(nn.MultiheadAttention(8, 4), (x, x, x))
    assert groups(graph) == {
        "query": "4x2 ! meets an axis of fixed size in the attention",
        "out_proj": "8 ! is an output of the model",
    }
    assert graph.layer_by_name["scores"].positions == 1  # of the first item of what leads, here the sequence


def test_the_encoder_of_torch() -> None:
    layer = nn.TransformerEncoderLayer(12, 4, 16, batch_first=True, norm_first=True)
    graph = facts(
        lambda m, x: m.b(m.encoder(m.a(x), mask=torch.zeros(5, 5))), 2, 5, 6,
        a=nn.Linear(6, 12), encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), b=nn.Linear(12, 4),
    )  # fmt: skip
    assert free(graph) == {"a": "4x3", "encoder.layers.0.linear1": "16", "encoder.layers.1.linear1": "16"}
    assert graph.stages == {"encoder.layers": ("encoder.layers.0", "encoder.layers.1")}


def test_attention_called_as_a_function_is_frozen() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = m.a(x).transpose(0, 1)
        y = F.multi_head_attention_forward(
            x, x, x, 8, 2, m.at.in_proj_weight, m.at.in_proj_bias, None, None, False, 0.0,
            m.at.out_proj.weight, m.at.out_proj.bias, training=False,
        )[0]  # fmt: skip
        return m.b(y)

    graph = facts(forward, 2, 5, 6, a=nn.Linear(6, 8), at=nn.MultiheadAttention(8, 2), b=nn.Linear(8, 4))
    assert why(graph, "a") == "passes through multi_head_attention_forward, which has no rule, in the model"
