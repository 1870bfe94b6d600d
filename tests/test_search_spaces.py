"""Oracle 9: every file in search_spaces/ is what the code makes today, and every conf composes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnas.__main__ import main
from bnas.compose import compose
from bnas.config import RunConfig
from bnas.files import read_json
from bnas.plain import from_plain
from bnas.space import SearchSpace

ROOT = Path(__file__).parent.parent
# Those of one model each; conf/build.yaml is about any.
CONFS = sorted(path.stem for path in (ROOT / "conf").glob("*.yaml") if "name: ???" not in path.read_text())

# Confs whose data the user has to have: as many classes without it, and the same space for smaller images.
WITHOUT_DATA = {
    "retinanet": ["data=none", "model.shape=[3,256,256]"],
    "ssd_resnet34": ["data=none", "model.shape=[3,400,400]"],
}


@pytest.mark.parametrize("conf", CONFS)
def test_reviewed_space_is_what_build_writes(
    conf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["build", f"conf={conf}", *WITHOUT_DATA.get(conf, [])]) == 0
    built = read_json(tmp_path / "runs" / conf / "space.json", SearchSpace)
    assert built == read_json(ROOT / "search_spaces" / f"{conf}.json", SearchSpace)
    assert (tmp_path / "runs" / conf / "space.json").read_bytes() == (
        ROOT / "search_spaces" / f"{conf}.json"
    ).read_bytes()


def test_every_conf_has_a_reviewed_space() -> None:
    assert sorted(path.stem for path in (ROOT / "search_spaces").glob("*.json")) == CONFS


@pytest.mark.parametrize(
    "path", sorted((ROOT / "conf").glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}={path.stem}"
)
def test_every_choice_composes(path: Path) -> None:
    """Each file of each group gives a valid configuration, alone on top of the quickstart."""
    overrides = [f"{path.parent.name}={path.stem}"]
    if "root: ???" in path.read_text():
        overrides.append("data.root=somewhere")
    if path.parent.name == "hw":
        overrides.append("hw.threads=1")
    if overrides == ["quantize=aimet"]:
        overrides.append("~quantize.bias_correction")  # as the file says
    from_plain(RunConfig, compose("quickstart", overrides))
    assert (
        path.read_text().startswith(f"# {path.parent.name}={path.stem}")
        or "--hw" in path.read_text()
        or (path.read_text().startswith("# @package _global_\n# " + overrides[0]))
    )
