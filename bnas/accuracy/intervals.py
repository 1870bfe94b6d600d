"""How sure a count of right answers makes a percentage, and the difference of two on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from torch import Tensor

_Z = 1.959963984540054  # 95 % of the normal distribution lie within


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much better the second network is than the first on the same images, in points, with its 95 % interval.

    `only_first` and `only_second` count the images that one alone has right.
    """

    points: float
    low: float
    high: float
    only_first: int
    only_second: int
    images: int

    def __str__(self) -> str:
        return (
            f"{self.points:+.2f} points [{self.low:+.2f}, {self.high:+.2f}] "
            f"({self.only_second} of {self.images} images right by it alone, {self.only_first} by the other)"
        )


def wilson(correct: int, images: int) -> tuple[float, float]:
    """The 95 % interval, in percent, of a share of which `correct` of `images` were seen (Wilson, JASA 22, 1927).

    Unlike percent ± 2 standard errors it stays within 0 to 100 and is not empty at either end.
    """
    share, spread = correct / images, _Z**2 / images
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * sqrt(share * (1 - share) / images + spread / (4 * images)) / (1 + spread)
    low = 0.0 if correct == 0 else middle - half
    high = 1.0 if correct == images else middle + half
    return 100 * low, 100 * high


def difference(first: Tensor, second: Tensor) -> Difference:
    """`second` minus `first`, bool [n] each: whether either network has image i right.

    The interval counts half an image more in each of the four cells (Agresti & Min, Stat. Med. 24, 2005), as few
    images are right by one network alone; it is much narrower than the two networks' own intervals suggest.
    """
    images = len(first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    n, b, c = images + 2, only_first + 0.5, only_second + 0.5
    middle = (c - b) / n
    half = _Z * sqrt(b + c - (c - b) ** 2 / n) / n
    return Difference(
        points=100 * (only_second - only_first) / images,
        low=100 * max(-1.0, middle - half),
        high=100 * min(1.0, middle + half),
        only_first=only_first,
        only_second=only_second,
        images=images,
    )
