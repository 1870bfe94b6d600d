from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bnas.measure import timing
from bnas.measure.energy import Energy, counters, energy_of
from bnas.plain import from_plain, to_plain

FULL = 1_000_000


class Machine:
    """A machine whose zones spend energy while networks run; its folder looks like Linux's powercap."""

    def __init__(self, root: Path) -> None:
        self.root, self.seconds = root, 0.0

    def zone(self, folder: str, name: str, energy_uj: int = 0) -> Path:
        path = self.root / folder
        path.mkdir(parents=True)
        (path / "name").write_text(f"{name}\n")
        (path / "max_energy_range_uj").write_text(f"{FULL}\n")
        (path / "energy_uj").write_text(f"{energy_uj}\n")
        return path

    def run(self, spends: dict[Path, int], *, seconds: float = 0.1) -> Callable[[], None]:
        """A network that takes that long, and microjoules of each zone."""

        def call() -> None:
            self.seconds += seconds
            for zone, energy in spends.items():
                file = zone / "energy_uj"
                file.write_text(str((int(file.read_text()) + energy) % FULL))

        return call


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(timing, "now", lambda: machine.seconds)
    return machine


def test_energy_of_an_inference_is_that_of_packages_and_memory(machine: Machine) -> None:
    package = machine.zone("intel-rapl:0", "package-0", 500)
    core = machine.zone("intel-rapl:0:0", "core")  # a part of its package
    memory = machine.zone("intel-rapl:0:1", "dram", 7)  # not a part of it
    other = machine.zone("intel-rapl:1", "package-1")
    platform = machine.zone("intel-rapl:2", "psys")  # holds the packages
    again = machine.zone("intel-rapl-mmio:0", "package-0")
    run = machine.run({package: 4000, core: 900, memory: 300, other: 200, platform: 9000, again: 4000})
    energy = energy_of(run, seconds=0.45, root=machine.root)
    assert energy.inferences == 5  # of 0.1 s each
    assert energy.mj == pytest.approx(4.5)
    assert energy.watts == pytest.approx(0.0045 / 0.1)
    assert energy.zones == ("package-0", "dram", "package-1")
    assert energy.why_not == ""


def test_a_call_that_does_many_inferences_shares_its_energy(machine: Machine) -> None:
    run = machine.run({machine.zone("intel-rapl:0", "package-0"): 8000})
    run.inferences = 4  # type: ignore[attr-defined]
    energy = energy_of(run, seconds=0.1, root=machine.root)
    assert (energy.mj, energy.inferences) == (pytest.approx(2.0), 4)


def test_a_counter_that_begins_again_at_0_meanwhile(machine: Machine) -> None:
    package = machine.zone("intel-rapl:0", "package-0", FULL - 1000)
    energy = energy_of(machine.run({package: 6000}), seconds=0.3, root=machine.root)
    assert int((package / "energy_uj").read_text()) < FULL - 1000
    assert energy.mj == pytest.approx(6.0)


def never() -> None:
    raise AssertionError("nothing needs to run where energy cannot be read")


def test_without_counters_the_answer_is_none_and_why(tmp_path: Path) -> None:
    energy = energy_of(never, root=tmp_path / "none")
    assert energy.mj is None
    assert "no energy counters (RAPL)" in energy.why_not


def test_counters_of_parts_alone_are_none_of_the_package(machine: Machine) -> None:
    machine.zone("intel-rapl:0", "psys")
    assert energy_of(never, root=machine.root).mj is None


def test_counters_that_this_user_may_not_read_say_how_to_allow_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = machine.zone("intel-rapl:0", "package-0")
    (zone / "energy_uj").chmod(0)
    if os.access(zone / "energy_uj", os.R_OK):  # the superuser reads everything
        usual = Path.read_text

        def refuse(path: Path, *args: object) -> str:
            if path.name == "energy_uj":
                raise PermissionError(13, "Permission denied", str(path))
            return usual(path)

        monkeypatch.setattr(Path, "read_text", refuse)
    energy = energy_of(never, root=machine.root)
    assert energy.mj is None
    assert "may not read" in energy.why_not
    assert "sudo chmod a+r" in energy.why_not


@pytest.mark.parametrize("text", ["", "many"])
def test_a_damaged_counter_is_named(machine: Machine, text: str) -> None:
    zone = machine.zone("intel-rapl:0", "package-0")
    (zone / "energy_uj").write_text(text)
    found, why_not = counters(machine.root)
    assert found == ()
    assert str(zone) in why_not


def test_a_counter_that_vanishes_meanwhile_is_none_and_why(machine: Machine) -> None:
    zone = machine.zone("intel-rapl:0", "package-0")

    def vanish() -> None:
        machine.seconds += 1
        (zone / "energy_uj").unlink()

    energy = energy_of(vanish, root=machine.root)
    assert energy.mj is None
    assert "stopped answering: No such file" in energy.why_not


def test_a_counter_that_stands_still_is_not_zero_energy(machine: Machine) -> None:
    run = machine.run({machine.zone("intel-rapl:0", "package-0", 5): 0})
    energy = energy_of(run, root=machine.root)
    assert energy.mj is None
    assert "stand still" in energy.why_not


def test_energy_is_plain_data() -> None:
    energy = Energy(mj=1.5, watts=20.0, zones=("package-0",), inferences=3)
    assert from_plain(Energy, to_plain(energy)) == energy


def test_this_machine_answers_one_way_or_the_other() -> None:
    ran = []
    energy = energy_of(lambda: ran.append(1), seconds=0.0)
    assert (energy.mj is None) == bool(energy.why_not)
    assert energy.mj is None or energy.mj >= 0
