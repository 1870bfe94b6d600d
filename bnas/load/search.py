"""Server: the most queries per second that a network bears."""

from __future__ import annotations

from collections.abc import Callable

HEADROOM = 0.95  # of the rate found: a longer test meets moments that a short one did not


def highest_valid(holds: Callable[[float], bool], highest: float, steps: int) -> float:
    """The highest rate in (0, `highest`) that holds, to within `highest` / 2 ** `steps`, by bisection.

    `holds` tells of a rate whether a test at it is valid; it is asked `steps` times. Where none held, the lowest that
    was tried.
    """
    low, high = 0.0, highest
    for _ in range(steps):
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low or high
