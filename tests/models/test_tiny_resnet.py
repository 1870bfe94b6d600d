from __future__ import annotations

import pytest
import torch
from torch import nn

from bnas.models import TinyResNet


def test_the_default_network_by_hand_counted_parameters() -> None:
    def block(inputs: int, width: int) -> int:
        projection = inputs * width + 2 * width if inputs != width else 0
        return 9 * inputs * width + 9 * width * width + 4 * width + projection

    expected = (
        (9 * 24 + 2 * 24)
        + 3 * block(24, 24)
        + block(24, 48) + 2 * block(48, 48)
        + block(48, 96) + block(96, 96)
        + 96 * 10 + 10
    )  # fmt: skip
    assert sum(p.numel() for p in TinyResNet().parameters()) == expected


def test_names_are_those_of_torchvisions_resnet() -> None:
    names = set(dict(TinyResNet(widths=(8, 16), depths=(2, 1)).named_modules()))
    assert {"conv1", "bn1", "layer1.0.conv1", "layer1.1.bn2", "layer2.0.downsample.0", "fc"} <= names
    assert "layer1.0.downsample" not in names
    assert "layer3" not in names


def test_each_stage_but_the_first_halves_the_image() -> None:
    model = TinyResNet(10, 3, widths=(4, 8, 12), depths=(1, 2, 1)).eval()
    sizes: list[tuple[int, ...]] = []
    for stage in ("layer1", "layer2", "layer3"):
        model.get_submodule(stage).register_forward_hook(lambda _m, _i, out: sizes.append(tuple(out.shape)))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert sizes == [(2, 4, 32, 32), (2, 8, 16, 16), (2, 12, 8, 8)]


def test_a_block_is_relu_of_its_branch_plus_its_input() -> None:
    torch.manual_seed(0)
    block = TinyResNet(widths=(4,), depths=(1,)).get_submodule("layer1.0").eval()
    x = torch.randn(1, 4, 5, 5)
    branch = nn.Sequential(*(block.get_submodule(name) for name in ("conv1", "bn1")), nn.ReLU())
    branch.extend([block.get_submodule("conv2"), block.get_submodule("bn2")])
    assert torch.allclose(block(x), (branch(x) + x).clamp(min=0))


@pytest.mark.parametrize(
    "options", [{"widths": (8,)}, {"widths": (), "depths": ()}, {"widths": (8, 0), "depths": (1, 1)}]
)
def test_widths_and_depths_that_do_not_agree_are_refused(options: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="one positive number per stage"):
        TinyResNet(**options)  # type: ignore[arg-type]


def test_it_learns_four_images_by_heart() -> None:
    torch.manual_seed(0)
    model = TinyResNet(4, 1, widths=(8, 16), depths=(1, 1))
    images, labels = torch.randn(4, 1, 8, 8), torch.arange(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert model(images).argmax(1).equal(labels)
