"""Models of the user's own: how they are made, and what they are called with."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from bnas.errors import ModelError
from bnas.models import ModelConfig, load_model

OWN = """
import torch
from torch import nn

class Two(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.embed = nn.Embedding(11, width)
        self.out = nn.Linear(width, 2)

    def forward(self, tokens, *, weights=None):
        x = self.embed(tokens)
        return self.out(x if weights is None else x * weights[..., None])

def make():
    return Two()

def tokens():
    return torch.randint(11, (1, 5))

def keywords():
    return {"tokens": torch.zeros(1, 5, dtype=torch.int64), "weights": torch.ones(1, 5)}

def nested():
    return ({"images": [torch.ones(3, 4, 4), torch.ones(3, 6, 6)]}, torch.zeros(2))

def images():
    return [torch.ones(3, 4, 4), torch.ones(3, 6, 6)]

def of_shape(shape):
    return torch.ones(2, *shape)

def numbers():
    return (1, 2)

def fails():
    raise KeyError("nothing")

constant = 3

class Described(nn.Linear):
    def __init__(self):
        super().__init__(6, 2)

    def example_inputs(self):
        return torch.ones(3, self.in_features)

def attributed():
    return nn.Linear(7, 2)

attributed.example_inputs = lambda: (torch.ones(1, 7),)

def lazy():
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2))

def lazy_needs(num_classes):
    return nn.LazyLinear(num_classes)

def has_default(num_classes=5):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))

def masks(num_classes):
    return nn.Conv2d(3, num_classes, 1)

def compiled():
    def backend(graph, inputs):
        raise AssertionError("it was compiled")
    return torch.compile(nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), backend=backend)

net = nn.Linear(192, 2)
"""


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_for_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_for_test", raising=False)


def own(name: str, inputs: str | None = None, **more: object) -> ModelConfig:
    given = None if inputs is None else f"own_for_test:{inputs}"
    return ModelConfig(name=f"own_for_test:{name}", inputs=given, **more)


def test_a_tensor_is_one_positional_input() -> None:
    model, inputs = load_model(own("make", "tokens"))
    assert isinstance(inputs, tuple)
    assert [x.shape for x in inputs] == [(1, 5)]
    assert model(*inputs).shape == (1, 5, 2)


def test_a_dict_is_keyword_inputs() -> None:
    model, inputs = load_model(own("make", "keywords"))
    assert isinstance(inputs, dict)
    assert list(inputs) == ["tokens", "weights"]
    assert model(**inputs).shape == (1, 5, 2)


def test_a_tuple_is_positional_inputs_of_any_nesting() -> None:
    _, inputs = load_model(own("make", "nested"))
    assert isinstance(inputs, tuple)
    assert [x.shape for x in inputs[0]["images"]] == [(3, 4, 4), (3, 6, 6)]
    assert inputs[1].shape == (2,)


def test_a_list_is_one_input() -> None:
    _, inputs = load_model(own("make", "images"))
    assert isinstance(inputs, tuple)
    assert len(inputs) == 1
    assert [x.shape for x in inputs[0]] == [(3, 4, 4), (3, 6, 6)]


def test_inputs_are_given_the_shape_where_they_ask_for_it() -> None:
    _, inputs = load_model(own("make", "of_shape", shape=(3, 8, 9)))
    assert inputs[0].shape == (2, 3, 8, 9)


def test_inputs_are_fixed_by_the_seed() -> None:
    drawn = [load_model(own("make", "tokens"), seed=seed)[1][0] for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_model_may_say_its_inputs_itself() -> None:
    assert load_model(own("Described"))[1][0].shape == (3, 6)
    assert load_model(own("attributed"))[1][0].shape == (1, 7)
    assert load_model(own("Described", "of_shape", shape=(6,)))[1][0].shape == (2, 6)


def test_without_any_it_is_one_image() -> None:
    assert load_model(own("make"))[1][0].shape == (1, 3, 224, 224)
    assert load_model(own("make", shape=(1, 28, 28)))[1][0].shape == (1, 1, 28, 28)


def test_a_module_that_is_made_already_is_copied() -> None:
    model, _ = load_model(own("net", "of_shape", shape=(192,)))
    assert type(model) is nn.Linear
    assert model is not sys.modules["own_for_test"].net
    with pytest.raises(ModelError, match="own_for_test:net is a module that is made already, it takes none"):
        load_model(own("net", options={"width": 3}))


def test_lazy_modules_become_plain_ones() -> None:
    model, inputs = load_model(own("lazy", shape=(3, 8, 8)))
    assert [type(module) for module in model] == [nn.Conv2d, nn.BatchNorm2d, nn.Flatten, nn.Linear]
    assert model.get_parameter("3.weight").shape == (2, 4 * 6 * 6)
    assert torch.equal(model.get_buffer("1.running_mean"), torch.zeros(4))
    assert model(*inputs).shape == (1, 2)


def test_the_number_of_classes_is_the_models_own_unless_somebody_says_it() -> None:
    shape = (3, 8, 8)
    assert load_model(own("has_default", shape=shape))[0].get_submodule("1").out_features == 5
    assert load_model(own("has_default", shape=shape, num_classes=7))[0].get_submodule("1").out_features == 7
    assert load_model(own("has_default", num_classes=7), shape=shape, num_classes=9)[0][1].out_features == 9
    with pytest.raises(ModelError, match="masks asks for num_classes: set model"):
        load_model(own("masks"))


def test_only_a_caller_with_data_wants_a_classifier() -> None:
    model, inputs = load_model(own("masks", num_classes=4, shape=(3, 8, 8)))
    assert model(*inputs).shape == (1, 4, 8, 8)
    with pytest.raises(ModelError, match=r"must return a tensor \[1, 4\] .* got shape \[1, 4, 8, 8\]"):
        load_model(own("masks"), num_classes=4, shape=(3, 8, 8))


def test_a_compiled_model_is_not_compiled_by_loading_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, _ = load_model(own("compiled"), num_classes=10, shape=(3, 8, 8))
    assert type(model).__name__ == "OptimizedModule"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (own("make", "nothing"), "model.inputs: cannot import 'own_for_test:nothing': AttributeError"),
        (own("make", "constant"), "own_for_test:constant: expected a callable .*, got int"),
        (own("make", "fails"), "own_for_test:fails fails: KeyError: 'nothing'"),
        (
            own("make", "numbers"),
            "expected a tensor, a tuple of positional inputs .*, got tuple without a tensor",
        ),
        (own("lazy", "tokens"), "own_for_test:lazy does not run on its example inputs: RuntimeError: "),
        (own("make", options={"num_classes": 3}), "model.options.num_classes: not an option"),
    ],
)
def test_inputs_that_are_none(config: ModelConfig, text: str) -> None:
    with pytest.raises(ModelError, match=text) as caught:
        load_model(config)
    assert "\n" not in str(caught.value)
