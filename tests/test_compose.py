from __future__ import annotations

from pathlib import Path

import pytest

from bnas import compose as module
from bnas.compose import compose, conf_folder
from bnas.errors import ConfigError

PROJECT = {
    "quick": "defaults:\n- model: tiny\n- hw: cpu\n- _self_\nseed: 3\ntrain: {lr: 1e-3, epochs: 2}\nlr2: ${train.lr}\n",
    "resnet50": "defaults:\n- model: big\nname: fifty\n",
    "bare": "seed: 1\n",
    "model/tiny": "name: tiny\nwidth: 16\n",
    "model/big": "name: big\n",
    "model/both": "from: project\n",
    "hw/cpu": "threads: 2\n",
    "hw/big_server": "name: server\nthreads: 64\n",
}


def write(folder: Path, confs: dict[str, str]) -> None:
    for name, text in confs.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder beside a project with `PROJECT` as its confs; odd letters in both paths."""
    write(tmp_path / "the project's conf", PROJECT)
    monkeypatch.setattr(module, "conf_folder", lambda: tmp_path / "the project's conf")
    home = tmp_path / "my $home, 1"
    home.mkdir()
    monkeypatch.chdir(home)
    return home


def test_a_conf_its_groups_and_its_interpolations_become_plain_data(home: Path) -> None:
    config = compose("quick", [], None)
    assert config == {
        "name": "quick",
        "model": {"name": "tiny", "width": 16},
        "hw": {"name": "cpu", "threads": 2},
        "seed": 3,
        "train": {"lr": 0.001, "epochs": 2},
        "lr2": 0.001,
    }
    assert type(config["train"]) is dict
    assert list(home.iterdir()) == []  # Hydra writes nothing


def test_overrides_set_what_is_listed_and_what_is_not() -> None:
    overrides = [
        "train.lr=0.5",
        "train.stages=[{name: a, open: {depth: 0}}]",
        "search.population=8",
        "name=x",
    ]
    config = compose("quick", overrides, None)
    assert config["train"] == {"lr": 0.5, "epochs": 2, "stages": [{"name": "a", "open": {"depth": 0}}]}
    assert config["search"] == {"population": 8}
    assert config["name"] == "x"
    assert config["lr2"] == 0.5
    assert compose("quick", ["+train.lr=1", "++train.epochs=3"], None)["train"] == {"lr": 1, "epochs": 3}
    assert "hw" not in compose("quick", ["~hw"], None)
    assert compose("quick", ["seed=null"], None)["seed"] is None
    assert compose("quick", ["model={name: mine}"], None)["model"] == {"name": "mine", "width": 16}


@pytest.mark.parametrize(
    "text", ["/a b/c", "~/images", "it's", "C:\\data\\", "a=b", "(x)", "/x/~y'\\", "data/set-1.0", ""]
)
def test_any_text_can_be_a_value(text: str) -> None:
    assert compose("quick", [f"data.root={text}"], None)["data"]["root"] == text


def test_a_group_is_chosen_by_name_also_when_the_conf_does_not_list_it() -> None:
    assert compose("quick", ["model=big"], None)["model"] == {"name": "big"}
    assert compose("bare", ["model=tiny", "model.width=4"], None)["model"] == {"name": "tiny", "width": 4}
    assert compose("quick", ["model=big", "model=tiny"], None)["model"]["name"] == "tiny"
    both = compose("bare", ["model=tiny", "hw=cpu"], None)
    assert (both["model"]["name"], both["hw"]["threads"]) == ("tiny", 2)


@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "my_package.nets:make"])
def test_a_model_without_a_file_is_chosen_by_its_name(name: str) -> None:
    """It replaces the conf's own choice, of which nothing is left."""
    assert compose("quick", [f"model={name}"], None)["model"] == {"name": name}
    assert compose("bare", [f"model={name}", "model.width=2"], None)["model"] == {"name": name, "width": 2}


def test_hw_is_the_choice_of_that_group() -> None:
    assert compose("quick", [], "big_server")["hw"] == {"name": "server", "threads": 64}
    assert compose("quick", ["hw=cpu", "hw.threads=1"], "big_server")["hw"] == {
        "name": "server",
        "threads": 1,
    }
    assert compose("bare", [], "cpu")["hw"] == {"name": "cpu", "threads": 2}


def test_a_choice_may_be_a_file(home: Path) -> None:
    write(home, {"boxes/my box (2)": "threads: 7\n"})
    assert compose("quick", [], "boxes/my box (2).yaml")["hw"] == {"name": "my box (2)", "threads": 7}
    assert compose("bare", ["hw.threads=8"], "boxes/my box (2).yaml")["hw"]["threads"] == 8


def test_the_users_own_confs_come_first(home: Path) -> None:
    write(home / "conf", {"quick": "defaults:\n- model: mine\nmine: true\n", "model/mine": "name: mine\n"})
    write(home / "conf", {"model/both": "from: user\n"})
    assert compose("quick", [], None) == {"name": "quick", "model": {"name": "mine"}, "mine": True}
    assert compose("quick", ["model=big"], None)["model"] == {"name": "big"}
    fifty = compose("resnet50", ["model=both"], None)
    assert fifty == {"name": "fifty", "model": {"from": "user"}}


def test_a_conf_may_be_a_file_with_groups_beside_it(home: Path) -> None:
    write(home, {"lab/try": "defaults:\n- quick\n- override model: odd\n", "lab/model/odd": "name: odd\n"})
    config = compose("lab/try.yaml", [], None)
    assert (config["name"], config["model"], config["seed"]) == ("try", {"name": "odd"}, 3)
    assert compose("lab/try", [], None) == config
    assert compose(str(home / "lab/try.yaml"), [], None) == config


@pytest.mark.parametrize(
    ("conf", "overrides", "text"),
    [
        ("resnt50", [], "unknown conf 'resnt50'; did you mean 'resnet50'?"),
        ("zzz", [], "unknown conf 'zzz'; known: bare, quick, resnet50"),
        ("", [], "unknown conf ''"),
        ("my/own.yaml", [], "no conf file my/own.yaml"),
        (
            "quick",
            ["hw=big_sever"],
            "hw: no such choice 'big_sever'; did you mean 'big_server'? (known: big_server, cpu)",
        ),
        ("quick", ["hw=zzz"], "hw: no such choice 'zzz'; known: big_server, cpu"),
        ("quick", ["model=a/b"], "model: no such choice 'a/b'; known: big, both, tiny"),
        ("quick", ["hw=my.yaml"], "hw: no such file my.yaml"),
        ("quick", ["train.lr"], "train.lr: expected key=value"),
        ("quick", ["train..lr=1"], "train..lr=1: expected key=value"),
        ("quick", ["hydra.run.dir=x"], "hydra.run.dir=x: expected key=value"),
        ("quick", ["=1"], "=1: expected key=value"),
        ("quick", ["train.lr=[1"], "train.lr=[1: not readable: no viable alternative"),
        ("quick", ["train.lr=1,2"], "train.lr=1,2: one value expected; a list is written 'train.lr=[1,2]'"),
        ("quick", ["train.lr=${nope}"], "train.lr: Interpolation key 'nope' not found"),
        ("quick", ["train.lr=???"], "train.lr: must be given; add train.lr=..."),
    ],
)
def test_what_cannot_be_composed_is_told_in_one_line(conf: str, overrides: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose(conf, overrides, None)
    assert str(refusal.value).startswith(text)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("yaml", "text"),
    [
        ("a: 1\nb: [1\n", r"/bad\.yaml:3: expected ',' or '\]'"),
        ("a: 1\na: 2\n", r"/bad\.yaml:2: found duplicate key a"),
        ("\ta: 1\n", r"/bad\.yaml:1: found character"),
        ("x: !!python/name:os.system\n", r"/bad\.yaml:1: could not determine a constructor"),
        ("- 1\n", "conf bad: primary config 'bad' must be a DictConfig"),
        (
            "defaults:\n- model: tinny\n",
            "'bad' asks for 'model/tinny', which does not exist; did you mean 'tiny'",
        ),
        ("defaults:\n- nothing\n", "conf bad: 'bad' asks for 'nothing', which does not exist"),
        ("defaults:\n- bad\n", "conf bad: refers to itself"),
        ("defaults:\n- model: ???\n", "conf bad: You must specify 'model'"),
        ("defaults: 5\n", "conf bad: Invalid defaults list"),
        ("x: ${y}\n", "^x: Interpolation key 'y' not found$"),
        ("x: ${oc.env:BNAS_NOT_THERE}\n", "^x: .*BNAS_NOT_THERE"),
        ("x: ???\n", "^x: must be given"),
    ],
)
def test_a_yaml_that_is_wrong_names_file_and_place(home: Path, yaml: str, text: str) -> None:
    write(home / "conf", {"bad": yaml})
    with pytest.raises(ConfigError, match=text) as refusal:
        compose("bad", [], None)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_no_text_or_no_mapping(home: Path) -> None:
    (home / "conf").mkdir()
    (home / "conf" / "bad.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(ConfigError, match=r"^conf bad: 'utf-8' codec can't decode"):
        compose("bad", [], None)
    write(home, {"list": "- 1\n", "half": "a: [\n"})
    with pytest.raises(ConfigError, match=r"^\./list\.yaml: expected a mapping of the options of hw"):
        compose("quick", [], "./list.yaml")
    with pytest.raises(ConfigError, match=r"half\.yaml:2: "):
        compose("quick", [], "./half.yaml")


def test_the_folder_of_confs_is_in_the_package_when_installed_and_beside_it_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "bnas"
    package.mkdir(parents=True)
    monkeypatch.setattr(module, "__file__", str(package / "compose.py"))
    assert conf_folder() == tmp_path / "site" / "conf"
    (package / "conf").mkdir()
    assert conf_folder() == package / "conf"


@pytest.mark.parametrize(
    ("override", "constraints"),
    [
        ("search.constraints.latency_ms<=5", {"latency_ms": "<= 5"}),
        ("search.constraints.top1_percent>=93", {"top1_percent": ">= 93"}),
        ("search.constraints.latency_ms=<= 5", {"latency_ms": "<= 5"}),
        ('+search.constraints.latency_ms="<= 5"', {"latency_ms": "<= 5"}),
        ("search.constraints.latency_ms@cpu_throughput<=5", {"latency_ms@cpu_throughput": "<= 5"}),
        ('search.constraints.latency_ms@cpu="<= 5"', {"latency_ms@cpu": "<= 5"}),
        ('search.constraints={latency_ms: "<= 5", macs: <=1e6}', {"latency_ms": "<= 5", "macs": "<=1e6"}),
        ('search.constraints={"latency_ms@cpu": "<= 5"}', {"latency_ms@cpu": "<= 5"}),
    ],
)
def test_bounds_are_read_as_they_are_typed(override: str, constraints: dict[str, str]) -> None:
    assert compose("bare", [override])["search"]["constraints"] == constraints


def test_bounds_add_up() -> None:
    typed = [
        "search.constraints.latency_ms<=5",
        "search.constraints.macs@x<=1",
        "search.preference.energy_mj@x=2.5",
    ]
    search = compose("bare", typed)["search"]
    assert search["constraints"] == {"latency_ms": "<= 5", "macs@x": "<= 1"}
    assert search["preference"] == {"energy_mj@x": 2.5}
