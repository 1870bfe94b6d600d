"""What every backend has to hold. A backend of your own is tested by entering it in BACKENDS before this file."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from small_networks import patterns, small_net
from tiny_detector import tiny_detector
from torch import Tensor, nn

from bnas.detection import RawTensors
from bnas.errors import ConfigError, MeasureError, MissingPackageError
from bnas.export import Quantized
from bnas.measure import (
    BACKENDS,
    HwConfig,
    MeasureConfig,
    prepare,
    throughput_per_s,
    time_interleaved,
    timing,
)
from bnas.measure.backends import torch_compile
from bnas.plain import from_plain
from bnas.quantize import NncfPTQ

EXAMPLE = torch.zeros(1, 3, 16, 16)
CONF = Path(__file__).parents[3] / "conf" / "hw"
CONFIG = MeasureConfig(min_rounds=7, max_rounds=15, block_ms=1, warmup_ms=5)
COUNTS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 27)  # each a third more than the one before, or more


class Convolutions(nn.Module):
    """The same convolution `count` times: `count` times the work."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(48, 48, 3, padding=1) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "torch_cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    if name == "torch_compile" and shutil.which("g++") is None:
        pytest.skip("there is no C++ compiler")
    if find_spec(BACKENDS[name].package) is None:
        pytest.skip(f"{BACKENDS[name].package} is not installed")
    return name


def hw_of(backend: str, **options: object) -> HwConfig:
    return from_plain(HwConfig, {"backend": backend, "precision": "f32", "threads": 1} | options)


def test_all_outputs_of_a_detector_are_those_of_the_module(backend: str) -> None:
    if backend == "torch_compile":
        pytest.skip("takes long to compile")
    detector, images = tiny_detector().eval(), torch.randn(3, 3, 64, 64)
    hw = hw_of(backend, batch=2)  # the second batch is filled up
    runner = prepare(BACKENDS[backend].deploy(hw, NncfPTQ())(detector, images[:1]), hw, images[:1])
    with torch.no_grad():
        wanted = RawTensors(detector)(images)
    got = runner.predict_all(images)
    assert [own.shape for own in got] == [own.shape for own in wanted]
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    assert torch.equal(runner.predict(images), got[0])


@pytest.mark.parametrize("batch", [1, 4])
def test_predictions_are_those_of_the_module(backend: str, batch: int) -> None:
    if (backend, batch) == ("torch_compile", 1):
        pytest.skip("takes long to compile")
    net, images = small_net(), patterns(7)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    hw = hw_of(backend, batch=batch)
    network = BACKENDS[backend].deploy(hw, NncfPTQ())(net, EXAMPLE)
    runner = prepare(network, hw, EXAMPLE)
    runner()
    with torch.no_grad():
        torch.testing.assert_close(runner.predict(images), net(images), atol=1e-4, rtol=1e-4)
    runner()
    assert runner.inferences == 1
    for name, value in net.state_dict().items():  # the module that was given is as it was
        assert torch.equal(value, before[name])
        assert value.stride() == before[name].stride()


def test_more_work_takes_longer(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten networks come out in the order of their work."""
    monkeypatch.setattr(torch_compile, "COMPILER", "eager")  # inductor would take minutes for ten
    hw, example = hw_of(backend), torch.zeros(1, 48, 14, 14)
    if backend == "torch_cuda":
        example = torch.zeros(1, 48, 512, 512)  # or only the launches would count
    runners = {str(count): prepare(Convolutions(count).eval(), hw, example) for count in COUNTS}
    ratios = [found.ratio for found in time_interleaved(runners, CONFIG).values()]
    assert ratios == sorted(ratios)
    assert ratios[-1] > 2


def test_what_was_saved_is_loaded(backend: str, tmp_path: Path) -> None:
    save = BACKENDS[backend].save
    if save is None:
        with pytest.raises(MeasureError, match=rf"{backend} runs torch modules, got the file .*net\.xml"):
            prepare(tmp_path / "net.xml", hw_of(backend), EXAMPLE)
        return
    net, images, hw = small_net(), patterns(5), hw_of(backend, batch=2)
    network = BACKENDS[backend].deploy(hw, NncfPTQ())(net, EXAMPLE)
    path = save(network, tmp_path)
    assert path.parent == tmp_path
    with torch.no_grad():
        torch.testing.assert_close(prepare(path, hw).predict(images), net(images), atol=1e-4, rtol=1e-4)
    prepare(network, hw)()  # saving has left it as it was
    with pytest.raises(MeasureError, match="deploy it first"):
        save(net, tmp_path)


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_other_precisions_are_other_numbers(backend: str, precision: str) -> None:
    if precision not in BACKENDS[backend].precisions:
        with pytest.raises(ConfigError, match=f"precision.*{backend}.*{precision}"):
            hw_of(backend, precision=precision)
        return
    if (backend, precision) == ("torch_compile", "bf16"):
        pytest.skip("takes long to compile")
    net, images = small_net(), patterns(8)
    hw = hw_of(backend, precision=precision)
    network = BACKENDS[backend].deploy(hw, NncfPTQ())(net, EXAMPLE)
    runner = prepare(network, hw, EXAMPLE)
    runner()
    with torch.no_grad():
        wanted = net(images)
    error = float((runner.predict(images) - wanted).abs().max() / wanted.abs().max())
    if precision == "bf16" and backend == "openvino" and error < 1e-5:
        pytest.skip("OpenVINO runs FP32 on CPUs without BF16")
    assert 1e-4 < error < (2 if precision == "int8" else 0.05)  # int8: on made-up ranges
    if isinstance(network, Quantized):
        assert network.precision == ("int8" if precision == "int8" else "f32")


def test_throughput_is_many_inferences_a_call(backend: str) -> None:
    if "throughput" not in BACKENDS[backend].scenarios:
        with pytest.raises(ConfigError, match=f"scenario.*{backend}.*throughput"):
            hw_of(backend, scenario="throughput")
        with pytest.raises(
            MeasureError, match=f"scenario: the backend {backend} takes latency, got throughput"
        ):
            throughput_per_s(small_net(), hw_of(backend), example=EXAMPLE)
        return
    net, images = small_net(), patterns(5)
    runner = prepare(net, hw_of(backend, scenario="throughput", batch=2), EXAMPLE)
    assert runner.inferences > 1
    runner()
    with torch.no_grad():
        torch.testing.assert_close(runner.predict(images), net(images), atol=1e-4, rtol=1e-4)
    runner()


def test_throughput_counts_images(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "throughput" not in BACKENDS[backend].scenarios:
        pytest.skip("has no throughput scenario")
    hw = hw_of(backend, batch=4)
    several = prepare(small_net(), hw_of(backend, batch=4, scenario="throughput"), EXAMPLE).inferences
    ticks = iter(range(10**6))
    monkeypatch.setattr(timing, "now", lambda: float(next(ticks)))
    # a clock that ticks once a look: a window of 2 s ends at the third tick, after one call in 2 s
    assert throughput_per_s(small_net(), hw, seconds=10.0, example=EXAMPLE) == several * 4 / 2


def test_what_does_not_run_is_said(backend: str) -> None:
    class Mismatch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ torch.ones(3, 5)

    with pytest.raises(MeasureError, match="an example input is needed"):
        prepare(small_net(), hw_of(backend))
    with pytest.raises(MeasureError, match="training mode"):
        prepare(small_net().train(), hw_of(backend), EXAMPLE)
    with pytest.raises(MeasureError, match=r"(?i)mat1 and mat2|size|shape|tensors"):
        prepare(Mismatch().eval(), hw_of(backend), EXAMPLE)


def test_a_runtime_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    said = r"onnxruntime is not installed; install it with: pip install 'bnas\[onnxruntime\]'"
    with pytest.raises(MissingPackageError, match=said):
        prepare(small_net(), hw_of("onnxruntime"), EXAMPLE)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_hardware_is_offered(path: Path) -> None:
    """The name of each is that of its file, by `compose`."""
    text = path.read_text()
    assert text.startswith(f"# --hw {path.stem}")
    assert from_plain(HwConfig, yaml.safe_load(text)).backend in BACKENDS
