"""The oracles on a network that was trained on ImageNet: real weights, whose batch norms nobody has to make up."""

from __future__ import annotations

import os
from copy import deepcopy

import oracles
import pytest
import torch
from torch import Tensor, nn

from bnas.graph import trace
from bnas.models import ModelConfig, load_model
from bnas.space import derive_space
from bnas.supernet import Supernet, extract_subnet

MOBILENET = os.environ.get("BNAS_MOBILENET_V2_WEIGHTS")
pytestmark = pytest.mark.skipif(
    MOBILENET is None, reason="BNAS_MOBILENET_V2_WEIGHTS is not set to the published .pth file"
)


@pytest.fixture(scope="module", params=["same", "new"])
def built(request: pytest.FixtureRequest) -> tuple[nn.Module, Supernet, tuple[Tensor, ...]]:
    """The published network, or the one with a new head for ten classes; its super-network; two images."""
    config = ModelConfig(name="mobilenet_v2", weights=MOBILENET, head=request.param)
    model, _ = load_model(config, num_classes=10 if config.head == "new" else None, shape=(3, 64, 64))
    images = (torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)),)
    graph = trace(model, images)
    return model, Supernet(deepcopy(model), graph, derive_space(graph)), images


def test_the_largest_subnet_is_the_published_network(
    built: tuple[nn.Module, Supernet, tuple[Tensor, ...]],
) -> None:
    model, supernet, images = built
    oracles.check_largest(model, supernet, images)
    published = torch.load(str(MOBILENET), weights_only=True)
    largest = extract_subnet(supernet, supernet.space.largest).state_dict()
    assert largest.keys() == published.keys()
    same = [key for key in published if torch.equal(largest[key], published[key])]
    head = {"classifier.1.weight", "classifier.1.bias"}
    assert set(published) - set(same) == (head if len(largest["classifier.1.bias"]) == 10 else set())


def test_subnets_of_it_are_the_network_in_which_nobody_reads_the_rest(
    built: tuple[nn.Module, Supernet, tuple[Tensor, ...]],
) -> None:
    model, supernet, images = built
    oracles.check_extraction(model, supernet, supernet.space.smallest, images)
    oracles.check_reordering(supernet, images)  # last: it changes the weights
