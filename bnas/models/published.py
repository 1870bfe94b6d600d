"""The weights that torchvision publishes for its networks."""

from __future__ import annotations

import sys
from typing import Any

import torchvision.models

from bnas.models.family import Weights


def published_weights(name: str) -> tuple[Weights, ...]:
    """The weights of torchvision's network `name`, the best first."""
    known = torchvision.models.get_model_weights(name)
    best = known.DEFAULT
    return tuple(_weights(member) for member in (best, *(m for m in known if m != best)))


def _weights(member: Any) -> Weights:
    def fetch() -> Any:
        return member.get_state_dict(
            progress=sys.stderr.isatty(), check_hash=True, map_location="cpu", weights_only=True
        )

    return Weights(
        name=member.name,
        file=member.url.rpartition("/")[2],
        num_classes=len(member.meta["categories"]),
        fetch=fetch,
    )
