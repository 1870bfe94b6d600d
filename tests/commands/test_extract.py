"""`bnas.rebuild`: a folder of subnets/ makes its module again, wherever it lies."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_model
from torch import nn

from bnas import rebuild
from bnas.commands.extract import SubnetFile
from bnas.errors import RunError
from bnas.files import read_json, write_json
from bnas.graph import trace
from bnas.models import ModelConfig, load_model
from bnas.space import derive_space
from bnas.supernet import Supernet, extract_subnet, reshaping

MODEL = ModelConfig(
    options={"widths": (8, 16), "depths": (2, 2)}, weights="none", num_classes=4, shape=(1, 16, 16)
)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, nn.Module]:
    """A folder as `extract` writes it, and the module that it is of."""
    return write(tmp_path / "A", MODEL)


def write(folder: Path, model: ModelConfig, plugins: tuple[str, ...] = ()) -> tuple[Path, nn.Module]:
    network, inputs = load_model(model, seed=3)
    graph = trace(network, inputs)
    supernet = Supernet(network, graph, derive_space(graph))
    config = supernet.space.smallest
    subnet = extract_subnet(supernet, config)
    how = reshaping(supernet, config)
    write_json(
        folder / "subnet.json",
        SubnetFile(name="A", config=config, model=model, reshaping=how, plugins=plugins),
    )
    save_model(subnet, str(folder / "weights.safetensors"))
    return folder, subnet


def test_the_same_module_from_its_folder_alone(made: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder, subnet = made
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    again = rebuild(str(moved))
    assert not again.training
    assert repr(again) == repr(subnet)
    assert sum(isinstance(module, nn.Identity) for module in again.modules()) > 0
    x = torch.randn(2, 1, 16, 16)
    assert torch.equal(again(x), subnet(x))


def test_a_network_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n"
        "def make(width=16):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 2, 3))\n"
    )
    (tmp_path / "own_plugin.py").write_text("seen = True\n")
    model = ModelConfig(name="own_net:make", options={"width": 32}, weights="none", shape=(3, 12, 12))
    folder, subnet = write(tmp_path / "B", model, plugins=("own_plugin",))
    x = torch.randn(1, 3, 12, 12)
    assert torch.equal(rebuild(folder)(x), subnet(x))
    assert sys.modules["own_plugin"].seen
    for name in ("own_net", "own_plugin"):
        del sys.modules[name]


def test_what_is_missing_or_damaged_is_told(made: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder, _ = made
    with pytest.raises(RunError, match=r"nowhere.subnet\.json"):
        rebuild(tmp_path / "nowhere")
    weights = folder / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-9])
    with pytest.raises(RunError, match=r"weights\.safetensors cannot be read .*bnas extract --force"):
        rebuild(folder)
    weights.write_bytes(whole)
    file = read_json(folder / "subnet.json", SubnetFile)
    other = {
        **json.loads((folder / "subnet.json").read_text()),
        "model": {"name": "resnet18", "weights": "none"},
    }
    (folder / "subnet.json").write_text(json.dumps(other))
    with pytest.raises(RunError, match=r"weights\.safetensors cannot be read"):
        rebuild(folder)
    write_json(folder / "subnet.json", SubnetFile(name="A", config=file.config))
    with pytest.raises(RunError, match="does not say which network it is of"):
        rebuild(folder)
    weights.unlink()
    write_json(folder / "subnet.json", file)
    with pytest.raises(RunError, match=r"weights\.safetensors cannot be read"):
        rebuild(folder)
