"""`bnas pretrain` from weights that were made for other classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bnas.__main__ import main
from bnas.models import TinyResNet

LINE = (
    "pretrain",
    "conf=quickstart",
    "name=moved",
    "threads=1",
    "model.options={widths: [8, 16], depths: [1, 1]}",
    "data.train_images=200",
    "data.val_images=100",
    "data.test_images=100",
)
ONE_EPOCH = "pretrain={epochs: 1, warmup_epochs: 0, batch_size: 50, weight_decay: 0, precision: float32, lr: "


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of a network for 7 classes, in the current folder."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(TinyResNet(7, widths=(8, 16), depths=(1, 1)).state_dict(), tmp_path / "seven.pth")
    return tmp_path / "seven.pth"


def pretrained() -> dict[str, torch.Tensor]:
    return load_file("runs/moved/weights/pretrained.safetensors")


def test_with_a_new_head_it_starts_from_them_and_trains_on(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*LINE, f"model.weights={weights}", "model.head=new", ONE_EPOCH + "1.0e-9}"]) == 0
    assert f"trained on from {weights}, with a new last layer" in capsys.readouterr().out
    given, still = torch.load(weights, weights_only=True), pretrained()
    assert still["fc.weight"].shape == (10, 16)
    for key, value in given.items():
        if key.endswith((".weight", ".bias")) and not key.startswith("fc."):
            assert torch.allclose(still[key], value, atol=1e-6), key  # at this rate it stays where it began
    assert not torch.equal(still["bn1.running_mean"], given["bn1.running_mean"])  # but it was trained
    again = [*LINE, f"model.weights={weights}", "model.head=new", ONE_EPOCH + "0.05}", "--force"]
    assert main(again) == 0
    moved = pretrained()
    assert not torch.allclose(moved["conv1.weight"], given["conv1.weight"], atol=1e-3)
    assert not torch.allclose(moved["fc.weight"], still["fc.weight"], atol=1e-3)


def test_without_they_are_refused_and_the_way_out_is_told(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*LINE, f"model.weights={weights}"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "weights for another number of classes (fc.weight 7×16 instead of 10×16)" in told
    assert "model.head=new" in told
    assert not Path("runs/moved/weights").exists()


def test_no_other_head_than_these(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*LINE, f"model.weights={weights}", "model.head=fresh"]) == 2
    assert "model.head: expected 'same' or 'new', got 'fresh'" in capsys.readouterr().err
