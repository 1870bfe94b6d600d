from __future__ import annotations

from pathlib import Path

from bnas.files import read_json
from bnas.report.choices import (
    label_of,
    ordered_stages,
    shares_of,
    stages_of,
    value_words,
    without_effect,
)
from bnas.space import Choice, SearchSpace

SPACES = Path(__file__).parents[2] / "search_spaces"


def space(name: str) -> SearchSpace:
    return read_json(SPACES / f"{name}.json", SearchSpace)


def test_the_stages_of_a_resnet_in_its_order() -> None:
    choices = space("resnet50").choices
    assert ordered_stages(choices) == ("conv1", "layer1", "layer2", "layer3", "layer4")
    by_name = dict(zip((choice.name for choice in choices), stages_of(choices), strict=True))
    assert by_name["layer3.depth"] == by_name["layer3.2.conv1.width"] == "layer3"
    assert label_of(choices[5], "layer1") == "0.conv1"
    assert label_of(choices[0], "layer1") == "layer1"


def widths(*paths: str) -> list[Choice]:
    return [Choice(name=f"{path}.width", dim="width", values=(8, 16), targets=(path,)) for path in paths]


def test_blocks_of_a_depth_need_not_lie_in_what_it_is_called_after() -> None:
    depth = Choice(
        name="features.1.depth", dim="depth", values=(0, 1, 2), targets=("features.2", "features.3")
    )
    choices = [
        Choice(name="resolution", dim="resolution", values=(160, 224)),
        depth,
        *widths("features.0.0", "features.1.conv", "features.3.conv", "features.9.0"),
    ]
    assert stages_of(choices) == (
        "input", "features.1", "features.0", "features.1", "features.1", "features.9",
    )  # fmt: skip
    assert ordered_stages(choices) == ("input", "features.0", "features.1", "features.9")


def test_blocks_that_may_be_skipped_freely_are_no_stages() -> None:
    free = [
        Choice(name=f"layer1.{i}.depth", dim="depth", values=(0, 1), targets=(f"layer1.{i}",)) for i in (1, 2)
    ]
    assert stages_of([*free, *widths("layer1.1.conv1", "layer2.0.conv1")]) == ("layer1",) * 3 + ("layer2",)


def test_the_precision_of_all_that_is_in_no_block() -> None:
    choices = [
        Choice(name="precision", dim="precision", values=(1, 2), targets=("",)),
        Choice(name="layer1.0.precision", dim="precision", values=(1, 2), targets=("layer1.0",)),
        *widths("layer1.0.conv1"),
    ]
    assert ordered_stages(choices) == ("layer1.0", "network")
    assert value_words(choices[0]) == ("per channel", "FP32")
    assert shares_of(choices[0]) == (0.0, 1.0)


def test_a_choice_without_a_path() -> None:
    depth = Choice(name="depth", dim="depth", values=(0, 1, 2), targets=("a", "b"))
    assert stages_of([depth, *widths("a")]) == ("network", "network")
    assert label_of(depth, "network") == "depth"
    assert stages_of([]) == ordered_stages([]) == ()


def test_what_a_left_out_block_takes_with_it() -> None:
    choices = space("quickstart").choices
    names = [choice.name for choice in choices]
    gone = without_effect(choices)
    assert set(gone) == {0, 1, 2}
    assert choices[0].values == (0, 1, 2, 3)
    inside = [f"layer1.{i}.conv1.width" for i in range(3)]
    assert [[names[place] for place in own] for own in gone[0]] == [inside, inside[1:], inside[2:], []]


def test_a_width_that_is_used_elsewhere_too_stays() -> None:
    depth = Choice(name="a.depth", dim="depth", values=(0, 1), targets=("a.1", "a.2"))
    tied = Choice(name="a.1.conv.width", dim="width", values=(8, 16), targets=("a.1.conv", "b.conv"))
    assert without_effect([depth, tied]) == {0: ((), ())}
