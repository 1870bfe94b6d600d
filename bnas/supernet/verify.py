"""Prove by running that what was built is what it claims to be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bnas.errors import SpaceError
from bnas.graph.trace import eval_mode
from bnas.supernet.supernet import Supernet


@torch.no_grad()
def prove(supernet: Supernet, inputs: Sequence[Tensor], *, seed: int = 0, random_subnets: int = 2) -> int:
    """Run the largest, the smallest and some random subnets; returns how many ran.

    Raises:
        SpaceError: one of them does not run; the text holds the reason and the config's digest.
    """
    rng = np.random.default_rng([seed, 1])
    space = supernet.space
    configs = [space.largest, space.smallest, *(space.sample(rng) for _ in range(random_subnets))]
    with eval_mode(supernet.model):
        for config in configs:
            with supernet.activated(config):
                try:
                    supernet(*inputs)
                except (RuntimeError, ValueError, TypeError, IndexError) as error:
                    text = str(error).strip().splitlines()[0]
                    raise SpaceError(
                        f"the subnet {config.digest} does not run ({text}); freeze the layers concerned with "
                        "space.freeze=[PATTERN]"
                    ) from error
    return len(configs)
