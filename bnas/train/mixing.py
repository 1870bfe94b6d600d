"""Batches in which each image is mixed with its neighbour, and its label likewise."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2 as transforms


def mix(
    images: Tensor, labels: Tensor, *, mixup: float, cutmix: float, classes: int
) -> tuple[Tensor, Tensor]:
    """The images [n, C, H, W], each mixed with the one before it, and the labels as probabilities [n, classes].

    mixup (Zhang et al. 2018, "mixup: Beyond empirical risk minimization") adds up the two images' pixels in
    the shares lam and 1 - lam; CutMix (Yun et al. 2019, "CutMix: Regularization strategy to train strong
    classifiers with localizable features") fills a random box with the other image's pixels, and lam is what
    is left of the own. lam, one for the batch, is drawn from Beta(mixup, mixup) or Beta(cutmix, cutmix). With
    both above 0, one of them is drawn; with both 0, all is returned as it is.

    Draws from torch's global CPU generator. `labels` are class indices int64 [n]; n of 1 mixes nothing.
    """
    able: list[transforms.Transform] = []
    if mixup > 0:
        able.append(transforms.MixUp(alpha=mixup, num_classes=classes))
    if cutmix > 0:
        able.append(transforms.CutMix(alpha=cutmix, num_classes=classes))
    if not able:
        return images, labels
    chosen = able[int(torch.randint(len(able), ()))] if len(able) > 1 else able[0]
    mixed_images, mixed_labels = chosen(images, labels)
    return mixed_images, mixed_labels
