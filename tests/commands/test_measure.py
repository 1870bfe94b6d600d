"""`bnas measure` as a person types it: real networks, OpenVINO and NNCF; few subnets, timed a few times."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shutil import copytree
from statistics import median

import pytest
from mini import MINI

from bnas.__main__ import main
from bnas.commands import measure as measuring
from bnas.files import read_json, read_jsonl
from bnas.measure import LatencyModel, Measurement
from bnas.measure.hardware import logical_cores
from bnas.measure.predictors.correction import CORRECTIONS
from bnas.report import LatencyReport

QUICK = "measure={samples: 4, retries: 0, min_rounds: 1, max_rounds: 1, block_ms: 1, warmup_ms: 0, max_ratio_error_percent: 1000}"
CPU = Path("runs/mini/latency/cpu")

Done = Callable[..., str]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `measure` was done once, in a run that was not trained."""
    home = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert main(["measure", *MINI]) == 0
    return home


@pytest.fixture
def home(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of that folder is the current one."""
    monkeypatch.chdir(copytree(measured, tmp_path / "home"))


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is empty."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def done(capsys: pytest.CaptureFixture[str]) -> Done:
    """Run a command line, which must do its work; returns what it printed."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        status = main(list(arguments))
        told = capsys.readouterr()
        assert status == 0, told.err
        return told.out

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command line, which must be refused with one line and exit code 2; returns the line."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == 2
        errors = [
            line for line in capsys.readouterr().err.strip().splitlines() if not line.startswith("measure  ")
        ]
        assert len(errors) == 1, errors  # beside the steps of a progress bar
        assert errors[0].startswith("bnas: error: ")
        return errors[0].removeprefix("bnas: error: ")

    return run


def lines(folder: Path = CPU) -> list[Measurement]:
    return list(read_jsonl(folder / "measurements.jsonl", Measurement))


def model(folder: Path = CPU) -> LatencyModel:
    return read_json(folder / "model.json", LatencyModel)


@pytest.mark.usefixtures("home")
def test_it_leaves_measurements_a_predictor_and_what_the_report_draws(done: Done) -> None:
    assert [line.role for line in lines()].count("held_out") == 2
    assert {(line.precision, line.batch, line.threads) for line in lines()} == {("int8", 1, 1)}
    assert (model().samples, model().precision, model().figures.count) == (6, "int8", 2)
    report = read_json(CPU / "latency.json", LatencyReport)
    digests = {line.config.digest for line in lines()}
    assert {subnet.config_digest for subnet in report.subnets} == digests
    assert not Path("runs/mini/weights").exists()  # nothing was trained for it
    before = (CPU / "measurements.jsonl").read_bytes()
    told = done("measure")
    assert "measure: done before: 6 subnets timed on cpu; predictor (" in told
    assert (CPU / "measurements.jsonl").read_bytes() == before
    assert "2 subnets that the predictor had not seen" in done("show", "latency")
    told = done("measure", "measure.memory=true")
    assert "measure: the memory of 6 subnets that were timed before was not read; --force " in told


@pytest.mark.usefixtures("home")
def test_more_samples_are_added_to_those_that_are_there(done: Done) -> None:
    before = (CPU / "measurements.jsonl").read_text()
    told = done("measure", "measure.samples=8")
    assert "measure: 8 subnets timed on cpu" in told
    assert "new set" not in told
    after = (CPU / "measurements.jsonl").read_text()
    assert after.startswith(before)
    assert len({line.config for line in lines()}) == len(lines()) == 8
    assert model().samples == 8


@pytest.mark.usefixtures("home")
def test_other_conditions_begin_a_new_set_and_say_why(done: Done) -> None:
    option = "threads" if logical_cores() > 1 else "batch"
    told = done("measure", f"hw.{option}=2")
    assert f"measure: {option} was 1, is 2" in told
    assert "a new set is begun" in told
    assert [getattr(line, option) for line in lines()] == [1] * 6 + [2] * 6
    assert (model().samples, getattr(model(), option)) == (6, 2)
    told = done("measure", f"hw.{option}=1")  # back again: nothing is timed
    assert "new set" not in told
    assert len(lines()) == 12
    assert getattr(model(), option) == 1


@pytest.mark.usefixtures("home")
def test_other_hardware_has_a_folder_of_its_own_and_is_carried_over_to(done: Done, refused: Refused) -> None:
    fp32 = CPU.with_name("cpu_fp32")
    before = {path.name: path.read_bytes() for path in CPU.iterdir() if path.is_file()}
    text = refused("measure", "--hw", "cpu_fp32", "measure.transfer_from=cpo")
    assert text == "measure.transfer_from: cpo has no predictor in this run; did you mean 'cpu'?"
    assert not fp32.exists()  # told before anything is timed
    assert "6 subnets timed on cpu_fp32" in done("measure", "--hw", "cpu_fp32")
    assert {(line.precision, line.threads) for line in lines(fp32)} == {("f32", 1)}
    assert not set(CORRECTIONS) & set(model(fp32).cross_validated)

    done("measure", "measure.transfer_from=cpu")  # goes on with the newest run, and the hardware it had last
    assert len(lines(fp32)) == 6
    assert set(CORRECTIONS) < set(model(fp32).cross_validated)  # was compared with what it knows itself
    assert {path.name: path.read_bytes() for path in CPU.iterdir() if path.is_file()} == before
    text = refused("measure", "--hw", "cpu")
    assert text.startswith("measure.transfer_from: cpu is what is measured; ")
    assert "measure: done before: 6 subnets timed on cpu;" in done(
        "measure", "--hw", "cpu", "measure.transfer_from=null"
    )
    assert {path.name: path.read_bytes() for path in CPU.iterdir() if path.is_file()} == before


@pytest.mark.usefixtures("home")
def test_hardware_that_is_named_takes_the_place_of_the_former(done: Done) -> None:
    """Its threads stay, as another runtime is no reason for others; the scenario and the batch do not."""
    throughput = CPU.with_name("cpu_throughput")
    done("measure", "--hw", "cpu_throughput", "hw.batch=2")
    assert {(line.scenario, line.batch, line.threads) for line in lines(throughput)} == {("throughput", 2, 1)}
    assert "measure: done before: 6 subnets timed on cpu;" in done("measure", "--hw", "cpu")


@pytest.mark.usefixtures("home")
def test_a_source_of_another_search_space_is_refused(done: Done, refused: Refused) -> None:
    done("build", "space.dims=[width]", "--hw", "cpu_fp32", "--force")
    text = refused("measure", "--hw", "cpu_fp32", "measure.transfer_from=cpu")
    assert "cpu was measured on another search space; first: python -m bnas measure --hw cpu" in text


@pytest.mark.usefixtures("home")
def test_no_predictor_is_fitted_on_a_machine_that_is_too_noisy(refused: Refused) -> None:
    before = (CPU / "measurements.jsonl").read_bytes()
    text = refused("measure", "measure.max_ratio_error_percent=1e-6")
    assert "too noisy to fit a latency predictor: the ratios of 6 subnets to the reference" in text
    assert "are known to ±" in text
    assert "bnas measure --check" in text
    assert (CPU / "measurements.jsonl").read_bytes() == before


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["hw.batch=2"], "hw.batch: expected 1, got 2"),
        (["--hw", "cpu_fp32"], "hw.precision: expected 'int8', got 'f32'"),
        (["hw.scenario=throughput"], "hw.scenario: expected 'latency', got 'throughput'"),
        (["--hw", "cpu_onnxruntime"], "hw.backend: expected 'openvino', got 'onnxruntime'"),
        (["--hw", "worker"], "hw.where: expected 'here', got 'worker'"),
    ],
)
def test_what_can_be_measured_and_not_searched_for_is_said(
    options: list[str], text: str, refused: Refused
) -> None:
    told = refused("search", *options)
    assert told.startswith(f"{text}: a run is searched and reported for the INT8 latency of one image")


@pytest.mark.usefixtures("empty")
def test_a_model_alone_is_measured_without_data(done: Done) -> None:
    options = ("model.shape=[3,32,32]", "hw.threads=1", QUICK)
    told = done("measure", "model=resnet18", "--hw", "cpu", *options)
    assert "measure: 4 subnets timed on cpu; predictor (" in told
    assert "those left out in turn" in told
    folder = Path("runs/resnet18/latency/cpu")
    assert len(lines(folder)) == model(folder).samples == 4
    error_percent = median(line.ratio_error_percent for line in lines(folder))
    assert f", measured to ±{error_percent:.1f} % → " in told
    assert "runs/resnet18/latency/cpu/latency.html" in done("show", "latency")


NARROW = '''
import torch
from torch import nn

class Net(nn.Module):
    """Runs an operation that OpenVINO lacks on what is narrow alone."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3)
        self.pool, self.last = nn.AdaptiveAvgPool2d(1), nn.Linear(32, 5)

    def forward(self, x):
        x = self.first(x).relu()
        if self.first.out_channels < 24:
            x = x + 0 * torch.special.bessel_j0(x)
        return self.last(self.pool(self.second(x).relu()).flatten(1))
'''


@pytest.mark.usefixtures("empty")
def test_an_operation_that_cannot_be_converted_is_named_and_what_was_timed_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    (tmp_path / "narrow.py").write_text(NARROW)
    monkeypatch.syspath_prepend(tmp_path)
    options = ("model.shape=[3,16,16]", "hw.threads=1", "name=narrow", QUICK)
    text = refused("measure", "model.name=narrow:Net", "--hw", "cpu_fp32", *options)
    assert "bessel_j0" in text
    (kept,) = lines(Path("runs/narrow/latency/cpu_fp32"))  # the widest; the narrowest was next
    assert set(kept.config.values.values()) == {32}


@pytest.mark.usefixtures("home")
def test_a_runtime_that_is_not_installed_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    text = refused("measure", "--hw", "cpu_onnxruntime_fp32", "hw.threads=1")
    assert text == "onnxruntime is not installed; install it with: pip install 'bnas[onnxruntime]'"


@pytest.mark.usefixtures("empty")
def test_the_check_prints_a_table_and_needs_no_run(
    monkeypatch: pytest.MonkeyPatch, done: Done, refused: Refused
) -> None:
    monkeypatch.setattr(measuring, "check", partial(measuring.check, seconds=0.0))
    told = done("measure", "--check", "hw.threads=1", "measure.min_rounds=2", "measure.warmup_ms=0")
    assert told.startswith("cpu (openvino, int8, 1 thread) is ")
    for row in ("the same network", "half the work", "an eighth", "±1 % needs", "stolen time"):
        assert row in told
    assert not list(Path().iterdir())
    assert "run `bnas measure --check` on it itself" in refused("measure", "--check", "--hw", "worker")


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("measure nonsense", "measure: no such word 'nonsense'; known: worker"),
        ("measure wroker", "measure: no such word 'wroker'; did you mean 'worker'?"),
        ("measure worker here", "measure worker: no other word expected, got 'here'"),
        ("measure worker --listen nowhere", "--listen: expected HOST:PORT, as in 127.0.0.1:8765, got 'nowhere'"),
        ("measure worker --listen 127.0.0.1:99999", "--listen: expected HOST:PORT, as in 127.0.0.1:8765, got "),
        ("measure worker --listen 0.0.0.0:0", "--listen: 0.0.0.0:0 can be reached from other machines; set BNAS"),
        ("measure worker --hw cpu", "measure worker: takes --listen alone, got --hw cpu; "),
        ("measure worker hw.threads=1", "measure worker: takes --listen alone, got hw.threads=1; "),
        ("measure --listen 127.0.0.1:0", "--listen: goes with `measure worker`, not with `measure`"),
        ("measure --check --listen 127.0.0.1:0", "--listen: goes with `measure worker`, not with `measure --check`"),
        ("search --check", "--check: goes with `measure`, not with `search`"),
        ("search nonsense", "search: no other word expected, got 'nonsense'"),
        ("measure", "no run yet in runs/; start one with: python -m bnas run conf=quickstart"),
        ("measure --check hw.threads=1000", "hw.threads: expected 0 (all physical cores) to "),
        ("measure conf=quickstart hw.threads=1000", "hw.threads: expected 0 (all physical cores) to "),
        ("measure conf=quickstart --hw torch_cpu hw.precision=int8", "hw.precision: the backend torch_eager takes "),
    ],
)  # fmt: skip
def test_words_that_are_none_are_one_line(
    words: str, text: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BNAS_TOKEN", raising=False)
    assert refused(*words.split()).startswith(text)
    assert not list(Path().iterdir())


@pytest.mark.usefixtures("empty")
def test_unknown_hardware_is_told_with_what_is_known(refused: Refused) -> None:
    text = refused("measure", "conf=quickstart", "--hw", "gpu")
    assert text.startswith("hw: no such choice 'gpu'; ")
    for name in ("cpu", "cpu_fp32", "cpu_onnxruntime", "cuda", "remote", "torch_compile", "worker"):
        assert name in text.partition("known: ")[2]


@pytest.mark.usefixtures("home")
def test_a_cluster_that_is_not_there_leaves_the_run_as_it_was(refused: Refused) -> None:
    pytest.importorskip("ray")
    config = Path("runs/mini/config.yaml")
    before = config.read_text()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    text = refused("measure", "--hw", "remote", f"ray.address=127.0.0.1:{port}")
    assert f"ray.address: no Ray cluster at 127.0.0.1:{port}" in text
    assert config.read_text() == before
