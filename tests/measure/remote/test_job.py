from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_networks import small_net

from bnas import __version__
from bnas.errors import ConfigError, MeasureError
from bnas.export import Quantized, convert
from bnas.measure import HwConfig, MeasureConfig, detect
from bnas.measure.remote.job import Answer, Bench, Job, decode, different, encode, refuse_other
from bnas.measure.remote.package import Package, Store, contents, pack
from bnas.plain import from_plain

EXAMPLE = torch.zeros(1, 3, 16, 16)
HW = HwConfig(precision="f32", threads=1, where="worker", address="http://127.0.0.1:1")
QUICK = MeasureConfig(min_rounds=2, max_rounds=2, block_ms=0.5, warmup_ms=1)


def packed(folder: Path, width: int) -> tuple[Package, dict[str, bytes]]:
    network = Quantized(model=convert(small_net(width), EXAMPLE), precision="f32")
    package, paths = pack(network, HW, EXAMPLE, folder / str(width))
    return package, contents(paths)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Store(tmp_path / "bench"))


def test_a_job_names_missing_files_then_times_and_forgets_all_but_the_reference(
    bench: Bench, tmp_path: Path
) -> None:
    (reference, first), (network, second) = packed(tmp_path, 8), packed(tmp_path, 16)
    job = Job(version=__version__, hw=HW, config=QUICK, reference=reference, network=network)
    asked = decode(Answer, bench.answer(encode(job)))
    assert set(asked.missing) == {*first, *second}
    assert asked.timed is None
    for sha256, content in {**first, **second}.items():
        bench.store.add(sha256, [content])
    answer = bench.run(job)
    assert answer.timed is not None
    assert answer.timed.subnet.rounds == answer.timed.reference.rounds >= 2
    assert answer.hardware == detect(replace(HW, where="here", address=""))
    assert set(bench.store.missing(reference, network)) == set(second) - set(first)
    assert decode(Answer, encode(answer)) == answer


def test_the_reference_is_compiled_once_and_may_be_timed_itself(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnas.measure.remote import job as module

    made: list[Path] = []

    class Counted(module.Here):
        def __init__(
            self, hw: HwConfig, config: MeasureConfig, reference: Path, example: torch.Tensor
        ) -> None:
            made.append(reference)
            super().__init__(hw, config, reference, example)

    monkeypatch.setattr(module, "Here", Counted)
    (reference, files) = packed(tmp_path, 8)
    other, more = packed(tmp_path, 16)
    for sha256, content in {**files, **more}.items():
        bench.store.add(sha256, [content])
    job = Job(version=__version__, hw=HW, config=QUICK, reference=reference, network=reference)
    for _ in range(2):
        assert bench.run(job).timed is not None
    assert len(made) == 1
    assert bench.run(replace(job, reference=other)).timed is not None
    assert len(made) == 2


def test_what_a_device_cannot_do_is_told_with_its_name(bench: Bench) -> None:
    job = Job(version=__version__, hw=replace(HW, threads=4096), config=QUICK)
    error = decode(Answer, bench.answer(encode(job))).error
    assert detect(HwConfig()).host in error
    assert "threads: expected 0" in error
    assert "install the same" in decode(Answer, bench.answer(encode(replace(job, version="0")))).error
    assert "not the job" in decode(Answer, bench.answer(b"{")).error
    assert "no such option" in decode(Answer, bench.answer(b'{"what": 1}')).error


def test_a_network_that_the_runtime_does_not_take_is_told(bench: Bench, tmp_path: Path) -> None:
    reference, files = packed(tmp_path, 8)
    (tmp_path / "net.xml").write_text("<net")
    network, paths = pack(tmp_path / "net.xml", HW, EXAMPLE, tmp_path)
    for sha256, content in {**files, **contents(paths)}.items():
        bench.store.add(sha256, [content])
    job = Job(version=__version__, hw=HW, config=QUICK, reference=reference, network=network)
    assert "cannot be read" in decode(Answer, bench.answer(encode(job))).error


def test_devices_of_two_kinds_are_refused() -> None:
    here = detect(HwConfig())
    assert different(here, replace(here, host="other", frequency_mhz=1, memory_gib=1)) == ""
    other = replace(here, cpu="Another CPU", host="other")
    assert different(here, other) == f"cpu {here.cpu} and Another CPU"
    with pytest.raises(MeasureError, match="not of one kind: cpu"):
        refuse_other(here, other)


def test_a_package_stays_in_its_folder() -> None:
    sent = {"name": "net.xml", "sha256": "0" * 64, "size_bytes": 1}
    for bad in ("../net.xml", "/etc/passwd", ".hidden", "", "a/b", "net\n"):
        with pytest.raises(ConfigError, match="plain file name"):
            from_plain(Package, {"files": [{**sent, "name": bad}], "shape": [1]})
    with pytest.raises(ConfigError, match="64 hex digits"):
        from_plain(Package, {"files": [{**sent, "sha256": "../../x"}], "shape": [1]})
    with pytest.raises(ConfigError, match="of different names"):
        from_plain(Package, {"files": [sent, sent], "shape": [1]})
