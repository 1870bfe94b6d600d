"""Elastic networks of bnas and, where it is installed, of nvidia-modelopt, behind one interface."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from bnas.graph import trace
from bnas.space import SubnetConfig, derive_space
from bnas.supernet import Supernet, extract_subnet


class ElasticNet(Protocol):
    """A model made elastic; making it is what building costs."""

    module: nn.Module
    largest: Any

    def draw(self) -> Any: ...

    def activate(self, config: Any) -> None: ...

    def draw_and_activate(self) -> None: ...

    def copy_to_extract(self) -> Any:
        """What `extract` may spoil: a copy where it works in place; it is not part of extracting."""

    def extract(self, source: Any, config: Any) -> nn.Module: ...


class Bnas:
    """bnas' own, with the default rules of the space."""

    def __init__(self, model: nn.Module, inputs: tuple[Tensor, ...], seed: int) -> None:
        graph = trace(model, inputs)
        self.supernet = Supernet(model, graph, derive_space(graph))
        self.module = self.supernet.model
        self.largest = self.supernet.space.largest
        self._rng = np.random.default_rng(seed)

    def draw(self) -> SubnetConfig:
        return self.supernet.space.sample(self._rng)

    def activate(self, config: SubnetConfig) -> None:
        self.supernet.activate(config)

    def draw_and_activate(self) -> None:
        self.supernet.activate(self.supernet.space.sample(self._rng))

    def copy_to_extract(self) -> Supernet:
        return self.supernet

    def extract(self, source: Supernet, config: SubnetConfig) -> nn.Module:
        return extract_subnet(source, config)


class ModelOpt:
    """nvidia-modelopt's AutoNAS space (`modelopt.torch.nas`)."""

    def __init__(self, model: nn.Module, inputs: tuple[Tensor, ...], seed: int) -> None:
        import modelopt.torch.nas as mtn  # type: ignore[import-not-found,unused-ignore]

        self._mtn = mtn
        self.module: nn.Module = mtn.convert(model, "autonas").eval()
        mtn.sample(self.module, sample_func=max)
        self.largest = mtn.get_subnet_config(self.module)
        random.seed(seed)  # what mtn.sample draws from

    def draw(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self._mtn.sample(self.module)  # there is no drawing without activating
        return config

    def activate(self, config: Mapping[str, Any]) -> None:
        self._mtn.select(self.module, config)

    def draw_and_activate(self) -> None:
        self._mtn.sample(self.module)

    def copy_to_extract(self) -> nn.Module:
        return copy.deepcopy(self.module)

    def extract(self, source: nn.Module, config: Mapping[str, Any]) -> nn.Module:
        self._mtn.select(source, config)
        module: nn.Module = self._mtn.export(source)
        return module


Maker = Callable[[nn.Module, tuple[Tensor, ...], int], ElasticNet]  # of a model, its inputs and a seed


def makers() -> dict[str, Maker]:
    """bnas, and nvidia-modelopt where it can be imported; each by its name and version."""
    found: dict[str, Maker] = {"bnas": Bnas}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import modelopt.torch.nas  # noqa: F401
        found[f"modelopt {version('nvidia-modelopt')}"] = ModelOpt
    except (ImportError, PackageNotFoundError):
        pass
    return found
