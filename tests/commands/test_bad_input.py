"""Each mistake a person can make gets one clear line, exit code 2, and loses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bnas.__main__ import main

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command line in an empty folder; it must be refused with one line on stderr, which is returned."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("bnas: error: ")
        return lines[0].removeprefix("bnas: error: ")

    return run


def test_unknown_command(refused: Refused) -> None:
    assert "did you mean 'search'?" in refused("serach")


def test_unknown_conf(refused: Refused) -> None:
    assert "did you mean 'resnet50'?" in refused("train", "conf=resnet5")


def test_unknown_key(refused: Refused) -> None:
    text = refused("run", "conf=quickstart", "search.populaton=10")
    assert text == "search.populaton: no such option; did you mean 'population'?"


def test_wrong_type(refused: Refused) -> None:
    assert (
        refused("run", "conf=quickstart", "pretrain.epochs=many")
        == "pretrain.epochs: expected float, got 'many'"
    )


def test_unknown_hardware(refused: Refused) -> None:
    text = refused("search", "conf=quickstart", "--hw", "gpu")
    assert "gpu" in text
    assert "cpu" in text


def test_value_out_of_range(refused: Refused) -> None:
    assert "front_size: expected 3 or more, got 1" in refused("run", "conf=quickstart", "front_size=1")


@pytest.mark.parametrize("aimet", ["export.also=[aimet]", "export=aimet"])
def test_encodings_of_blocks_of_several_precisions(refused: Refused, aimet: str) -> None:
    text = refused("build", "conf=quickstart", "quantize.precisions=[int8_tensor,fp32]", aimet)
    assert text.startswith("quantize.precisions: AIMET's encodings are of networks quantized alike")


def test_no_run_yet(refused: Refused) -> None:
    assert refused("search") == "no run yet in runs/; start one with: python -m bnas run conf=quickstart"


def test_search_before_training(refused: Refused) -> None:
    text = refused("search", "conf=quickstart")
    assert text == "runs/quickstart has not been trained yet; first: python -m bnas train"


def test_unknown_model(refused: Refused) -> None:
    assert "did you mean 'resnet50'?" in refused("build", "conf=quickstart", "model.name=resnet5")


def test_weights_that_do_not_fit(refused: Refused, tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3, 3), "other": torch.zeros(1)}, tmp_path / "w.pth")
    text = refused("pretrain", "conf=quickstart", f"model.weights={tmp_path}/w.pth")
    assert "bn1.weight" in text
    assert "other" in text


def test_missing_data_folder(refused: Refused) -> None:
    text = refused("pretrain", "conf=quickstart", "data=fashion_mnist", "data.root=nowhere")
    assert "nowhere" in text


def test_data_without_a_root(refused: Refused) -> None:
    assert "data.root" in refused("pretrain", "conf=quickstart", "data=imagenet")


def image_folder(root: Path) -> Path:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(4):
                pixels = np.random.default_rng(i).integers(0, 255, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.JPEG")
    return root


IMAGES = (
    "conf=quickstart",
    "data=imagenet",
    "data.val_images=2",
    "data.size=32",
    "model.options.widths=[8,8,8]",
)


def test_empty_class_folder(refused: Refused, tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data")
    for path in (root / "train" / "dog").iterdir():
        path.unlink()
    text = refused("pretrain", *IMAGES, f"data.root={root}")
    assert str(root / "train" / "dog") in text


def test_unreadable_image(refused: Refused, tmp_path: Path) -> None:
    root = image_folder(tmp_path / "data")
    bad = root / "val" / "dog" / "1.JPEG"
    bad.write_bytes(b"no image")
    for path in (root / "train").glob("*/*.JPEG"):
        path.write_bytes(b"no image")
    text = refused("pretrain", *IMAGES, f"data.root={root}", "pretrain.batch_size=2")
    assert ".JPEG" in text
    assert str(root) in text


def test_image_size_the_model_cannot_take(refused: Refused) -> None:
    text = refused("build", "conf=quickstart", "model.name=vgg16_bn", "data.channels=3", "data.size=16")
    assert "data.size" in text


def test_grey_images_for_a_colour_model(refused: Refused) -> None:
    assert "data.channels=3" in refused("build", "conf=quickstart", "model.name=resnet18")


def test_plugin_that_is_not_there(refused: Refused) -> None:
    assert "plugins: nowhere cannot be imported" in refused("build", "conf=quickstart", "plugins=[nowhere]")


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["build", "conf=quickstart"]) == 0
    return tmp_path / "runs" / "quickstart"


def test_changed_options_are_refused_unless_forced(built: Path, refused: Refused) -> None:
    text = refused("build", "conf=quickstart", "space.width_multiple=16")
    assert "'build' was done with other options (space.width_multiple: 8 → 16)" in text
    assert "--force" in text
    before = (built / "space.json").read_bytes()
    assert main(["build", "conf=quickstart", "space.width_ratios=[0.5,1.0]", "--force"]) == 0
    assert (built / "space.json").read_bytes() != before


def test_the_newest_run_goes_on(built: Path, refused: Refused) -> None:
    assert "has not been trained yet" in refused("search", "--hw", "cpu")
    assert main(["show", "space"]) == 0


@pytest.mark.parametrize("name", ["stages.json", "config.yaml", "begun.json", "space.json"])
def test_damaged_file(built: Path, refused: Refused, name: str) -> None:
    (built / name).write_text("{ broken")
    text = refused(
        *{"space.json": ("show", "space"), "begun.json": ("build", "--force")}.get(name, ("build",))
    )
    assert name in text
    assert "damaged" in text


def test_a_run_that_is_in_use(built: Path, refused: Refused) -> None:
    import subprocess
    import sys

    code = (
        "import fcntl, os, sys, time; f = open(sys.argv[1], 'a+'); fcntl.flock(f, fcntl.LOCK_EX); "
        "f.truncate(0); f.write(str(os.getpid())); f.flush(); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(built / ".lock")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert f"is in use by process {holder.pid}" in refused("build", "--force")
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_full_disk(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("bnas.files.os.replace", full)
    text = refused("build", "conf=quickstart")
    assert "No space left on device" in text
    assert "runs/quickstart" in text


def test_runs_below_a_file(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused("build", "conf=quickstart", "runs=file")


def test_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 130, and what was written before stays whole: the same command goes on."""
    monkeypatch.chdir(tmp_path)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bnas.commands.build.derive_space", interrupted)
        assert main(["build", "conf=quickstart"]) == 130
    assert "goes on from here" in capsys.readouterr().err
    assert main(["build", "conf=quickstart"]) == 0
    assert json.loads((tmp_path / "runs/quickstart/stages.json").read_text())[0]["stage"] == "build"


def test_stages_that_do_not_fit_the_space_are_refused_before_anything_slow(refused: Refused) -> None:
    stages = "train.stages=[{name: a, dims: {kernel: 0}}]"
    text = refused("train", "conf=quickstart", "data.train_images=200", "name=early", stages)
    assert text == "train.stages[0].dims.kernel: the search space has no such dim; known: depth, width"
    assert Path("runs/early/space.json").exists()
    assert not Path("runs/early/weights").exists()  # nothing was pretrained for it
