from __future__ import annotations

import pytest
import torch
from elastic_networks import IMAGES, build, tiny_resnet
from torch import Tensor, nn

from bnas.errors import ModelError
from bnas.graph import trace
from bnas.space import SubnetConfig, derive_space
from bnas.supernet import Refused, Supernet, prove


class Chain(nn.Module):
    """Eight convolutions with a width each; `after` is called behind those named in it, on their output."""

    def __init__(self, **after: object) -> None:
        super().__init__()
        for number in range(8):
            setattr(self, f"conv{number}", nn.Conv2d(16 if number else 1, 16, 1))
        self.out = nn.Conv2d(16, 2, 1)
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        for number in range(8):
            x = getattr(self, f"conv{number}")(x)
            if f"conv{number}" in self.after:
                x = self.after[f"conv{number}"](x)
        y: Tensor = self.out(x)
        return y


def only_sixteen(x: Tensor) -> Tensor:
    """Python that the trace cannot see through."""
    if x.shape[1] != 16:
        raise ValueError(f"got {x.shape[1]} channels\nand more text")
    return x


def test_a_sound_supernet_passes_and_keeps_its_state() -> None:
    supernet = build(tiny_resnet())
    supernet.activate(supernet.space.smallest)
    proof = prove(supernet, IMAGES, random_subnets=3)
    assert proof.space == supernet.space
    assert proof.refused == ()
    assert proof.ran == 1 + 1 + 1 + 3  # largest, smallest, smallest with every block, three random
    assert supernet.active == supernet.space.smallest
    assert not supernet.model.training


def test_the_one_culprit_is_found_with_its_exception() -> None:
    supernet = build(Chain(conv5=only_sixteen))
    proof = prove(supernet, IMAGES)
    assert proof.refused == (Refused(choice="conv5.width", reason="ValueError: got 8 channels"),)
    assert [choice.name for choice in proof.space.choices] == [
        f"conv{i}.width" for i in (0, 1, 2, 3, 4, 6, 7)
    ]
    assert proof.ran <= 1 + 1 + 3 + 1 + 2  # largest, smallest, log2(8) to find it, smallest again, two random
    Supernet(supernet.release(), supernet.graph, proof.space).activate(proof.space.smallest)


def test_several_culprits() -> None:
    supernet = build(Chain(conv0=only_sixteen, conv4=only_sixteen, conv7=only_sixteen))
    proof = prove(supernet, IMAGES)
    assert {refused.choice for refused in proof.refused} == {"conv0.width", "conv4.width", "conv7.width"}
    assert len(proof.space.choices) == 5


def test_a_culprit_that_only_a_random_subnet_meets() -> None:
    def not_twelve(x: Tensor) -> Tensor:
        if x.shape[1] == 12:
            raise RuntimeError
        return x

    proof = prove(build(Chain(conv2=not_twelve)), IMAGES, random_subnets=12)
    assert proof.refused == (Refused(choice="conv2.width", reason="RuntimeError"),)


def test_an_output_of_another_shape_is_a_failure() -> None:
    def flattened(x: Tensor) -> Tensor:
        return x if x.shape[1] == 16 else torch.cat([x, x], -1)

    (refused,) = prove(build(Chain(conv3=flattened)), IMAGES).refused
    assert refused.choice == "conv3.width"
    assert "conv4 makes" in refused.reason

    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 16, 1), nn.Conv2d(16, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            y: Tensor = self.b(x)
            return y if x.shape[1] == 16 else y[..., 1:]

    (refused,) = prove(build(Doubled()), IMAGES).refused
    assert refused.choice == "a.width"
    assert refused.reason == "the output has shape (2, 2, 32, 31), that of the whole model (2, 2, 32, 32)"


def test_outputs_that_values_decide_may_have_any_number() -> None:
    class Found(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 16, 1), nn.Conv2d(16, 2, 1)

        def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
            y = self.b(self.a(x)).flatten()
            return {"found": [y[y > y.mean()], y[torch.where(y > 0)[0]]]}

    assert prove(build(Found()), IMAGES).refused == ()


def test_a_model_that_does_not_run_at_all() -> None:
    supernet = build(Chain())
    with pytest.raises(
        ModelError, match=r"the model does not run on these inputs: RuntimeError: .* channels"
    ):
        prove(supernet, (torch.zeros(2, 5, 8, 8),))


def test_interrupting_is_no_failure() -> None:
    model = Chain()
    supernet = build(model)

    def interrupt(x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    model.after = {"conv0": interrupt}
    with pytest.raises(KeyboardInterrupt):
        prove(supernet, IMAGES)


def test_inputs_by_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 2)

        def forward(self, *, image: Tensor, mask: Tensor) -> Tensor:
            y: Tensor = self.b(self.a(image) * mask)
            return y

    model, inputs = Named(), {"image": torch.randn(2, 4), "mask": torch.ones(2, 1)}
    graph = trace(model, inputs)
    supernet = Supernet(model, graph, derive_space(graph))
    assert prove(supernet, inputs).refused == ()
    assert supernet.active == SubnetConfig({"a.width": 16})


def test_what_breaks_inside_a_block_that_the_smallest_subnet_skips_is_found() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x + self.b(self.a(x).reshape(x.shape[0], 16, 4, 4))
            return y

    model = nn.Sequential(nn.Conv2d(3, 8, 1), Block(), nn.Conv2d(8, 2, 1))
    inputs = (torch.randn(2, 3, 4, 4),)
    graph = trace(model, inputs)
    proof = prove(Supernet(model, graph, derive_space(graph)), inputs, random_subnets=0)
    assert [refused.choice for refused in proof.refused] == ["1.a.width"]


def test_a_norm_within_each_head_is_no_fault() -> None:
    """Its output shrinks with the heads, which lie along another axis than its own channels."""

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.num_heads, self.qk = 4, nn.Linear(8, 64)
            self.norm, self.out = nn.LayerNorm(8), nn.Linear(32, 2)

        def forward(self, x: Tensor) -> Tensor:
            n, t, _ = x.shape
            q, k = self.qk(x).reshape(n, t, 2, self.num_heads, 8).permute(2, 0, 3, 1, 4).unbind(0)
            y = (self.norm(q) @ k.transpose(-2, -1)).softmax(-1) @ k
            return self.out(y.transpose(1, 2).reshape(n, t, -1))

    model, inputs = Heads(), (torch.randn(2, 5, 8),)
    graph = trace(model, inputs)
    space = derive_space(graph)
    assert [choice.name for choice in space.choices] == ["qk.width"]
    assert prove(Supernet(model, graph, space), inputs).refused == ()
