"""One subnet, as a value for every choice of its space."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from bnas.plain import digest


@dataclass(frozen=True)
class SubnetConfig:
    """A value per choice name; equal configs are equal and hash alike whatever their order."""

    values: Mapping[str, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", dict(self.values))

    def __getitem__(self, name: str) -> int:
        return self.values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def __hash__(self) -> int:
        return hash(frozenset(self.values.items()))

    def items(self) -> ItemsView[str, int]:
        return self.values.items()

    @cached_property
    def digest(self) -> str:
        """16 hex characters that name this config in files."""
        return digest(dict(sorted(self.values.items())))

    def __str__(self) -> str:
        width = max((len(name) for name in self.values), default=0)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.values.items())
