"""`bnas show front` on a front that was written by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from residual_graph import SPACE, residual

from bnas.__main__ import main
from bnas.commands.decision import Decision
from bnas.commands.show_front import idle_choices, summary
from bnas.files import read_json, write_json
from bnas.report import Verified
from bnas.run_folder import RunFolder
from bnas.search import OBJECTIVES, Box, Candidate, ParetoFront
from bnas.space import Choice, SearchSpace, SubnetConfig, canonical, with_precisions

Shown = Callable[..., list[list[str]]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose front has three members, of which the first and the last were measured."""
    home = tmp_path_factory.mktemp("front")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert main(["build", "model=tiny_resnet"]) == 0
    run = home / "runs" / "tiny_resnet"
    space = read_json(run / "space.json", SearchSpace)
    configs = [SubnetConfig({**space.largest.values, "layer1.depth": depth}) for depth in (3, 2, 1)]
    members = tuple(
        Candidate(
            config=config, values={"top1_percent": top1, "latency_ms": ms, "macs": macs, "parameters": 100.0}
        )
        for config, top1, ms, macs in zip(
            configs, (93.0, 92.0, 90.0), (3.0, 2.0, 1.0), (3e6, 2e6, 1e6), strict=True
        )
    )
    verified = [
        Verified(
            config=config, metric_fp32_percent=top1, metric_int8_percent=top1, latency_ms=ms, predicted_latency_ms=ms - 0.25,
            macs=1, parameters=1, measured={"top1_percent": top1, "latency_ms": ms},
        )
        for config, top1, ms in ((configs[0], 92.5, 3.5), (configs[2], 89.5, 1.5))
    ]  # fmt: skip
    front = ParetoFront(
        objectives=(OBJECTIVES["top1_percent"], OBJECTIVES["latency_ms"], OBJECTIVES["parameters"]),
        members=members,
        evaluations=members,
        hypervolume=(0.0, 0.1, 0.2),
        hypervolume_box=Box(ideal=(-93.0, 1.0, 1.0), nadir=(-90.0, 3.0, 2.0)),
    )
    write_json(
        run / "search/cpu/front.json",
        Decision(
            front=front, reference=verified[0], members=tuple(verified), chosen={"A": configs[0], "C": configs[2]}, notes=(),
        ),
    )  # fmt: skip
    RunFolder(run).finish("search@cpu", "digest", ["search/cpu/front.json"], "done", 1.0)
    return home


@pytest.fixture
def shown(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shown:
    """The rows that `show front` prints, in words."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("COLUMNS", "200")

    def show(*words: str) -> list[list[str]]:
        capsys.readouterr()
        assert main(["show", "front", *words]) == 0
        lines = capsys.readouterr().out.splitlines()
        return [line.replace("│", " ").split() for line in lines if line.startswith("│")]

    return show


@pytest.fixture
def refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    monkeypatch.chdir(home)

    def run(*words: str) -> str:
        capsys.readouterr()
        assert main(["show", "front", *words]) == 2
        return capsys.readouterr().err.strip().removeprefix("bnas: error: ")

    return run


def test_every_member_as_searched_and_as_measured(shown: Shown) -> None:
    rows = shown()
    assert rows[0][:7] == ["A", "93.00", "92.50", "3.25", "3.5", "3", "0.0001"]
    assert rows[1][:6] == ["92.00", "–", "2", "–", "2", "0.0001"]
    assert rows[2][:7] == ["C", "90.00", "89.50", "1.25", "1.5", "1", "0.0001"]
    assert rows[1][6:12] == ["depth", "2", "2", "1", "·", "width"]


@pytest.mark.parametrize(
    ("words", "top1"),
    [
        (["latency_ms<=2.5"], ["92.00", "90.00"]),
        (["latency_ms<=3.2"], ["92.00", "90.00"]),  # A was measured at 3.5
        (["latency_ms <= 3.6", "top1_percent>=92"], ["93.00", "92.00"]),
        (["top=1", "latency_ms<2.5"], ["92.00"]),
        (["macs<=1e6"], ["90.00"]),
        (["top=2"], ["93.00", "92.00"]),
    ],
)
def test_the_best_under_limits(words: list[str], top1: list[str], shown: Shown) -> None:
    rows = [[word for word in row if word not in ("A", "C")] for row in shown(*words)]
    assert [row[0] for row in rows] == top1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["latency_ms<=1"], "show front: no member has latency_ms <= 1; the best there is: latency_ms: 1.5"),
        (
            ["latency_ms<=1.6", "top1_percent>=92"],
            "show front: no member has latency_ms <= 1.6 and top1_percent >= 92; the best there is (each by itself): "
            "latency_ms: 1.5, top1_percent: 92.5",
        ),
        (
            ["latncy_ms<=1"],
            "show front: runs/tiny_resnet/search/cpu/front.json has no value 'latncy_ms'; did you mean 'latency_ms'?",
        ),
        (["top=none"], "show front: top: expected a number of members, as in top=3, got 'none'"),
        (["top=0"], "show front: top: expected a number of members, as in top=3, got '0'"),
        (
            ["latency_ms<=fast"],
            "show front: latency_ms: expected '<= NUMBER' or '>= NUMBER', got '<= fast'",
        ),
        (
            ["fastest"],
            "show front: expected limits and a count, as in: show front 'latency_ms<=5' 'macs<=3e8' top=3; "
            "got 'fastest'",
        ),
    ],
)
def test_what_cannot_be_had(words: list[str], text: str, refused: Callable[..., str]) -> None:
    assert refused(*words) == text


def test_before_the_search(home: Path, refused: Callable[..., str]) -> None:
    text = refused("hw.name=other")
    assert text == "runs/tiny_resnet has not been searched yet; first: python -m bnas search"


def test_a_subnet_in_few_words() -> None:
    space = SearchSpace(
        choices=(
            Choice(name="resolution", dim="resolution", values=(16, 32)),
            Choice(name="a.depth", dim="depth", values=(1, 2), targets=("a.0", "a.1")),
            Choice(name="x.kernel", dim="kernel", values=(3, 5)),
            Choice(name="y.kernel", dim="kernel", values=(3, 5)),
            Choice(name="z.kernel", dim="kernel", values=(3, 5)),
            Choice(name="x.width", dim="width", values=(8, 16)),
            Choice(name="y.width", dim="width", values=(8, 16)),
        )
    )
    values = {"x.width": 8, "z.kernel": 5}
    config = SubnetConfig({**space.smallest.values, "y.width": 16, **values})
    assert summary(space, config) == "resolution 16 · depth 1 · kernel 2×3 1×5 · width 75 %"
    idle = {"y.width", "x.kernel", "a.depth", "resolution"}
    assert summary(space, config, idle) == "depth 1 · kernel 1×3 1×5 · width 50 %"


def test_what_is_idle_does_not_count() -> None:
    graph = residual()
    mixed = with_precisions(SPACE, graph)
    assert summary(mixed, mixed.smallest).endswith(
        f" · {len(mixed.choices) - len(SPACE.choices)}×int8_tensor"
    )
    same, largest = canonical(graph, SPACE), SPACE.largest
    assert idle_choices(same, SPACE, largest) == set()
    shallow = SubnetConfig({**largest.values, "stage.depth": 1})
    assert idle_choices(same, SPACE, shallow) == {"stage.1.a.width"}
    assert idle_choices(same, SPACE, SPACE.smallest) == {"stage.0.a.width", "stage.1.a.width"}
