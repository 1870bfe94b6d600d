"""Energy of an inference, from the counters that the CPU keeps of itself (RAPL, on Linux).

What is read is the energy of whole CPU packages and their memory, with what they take when idle and with what
other work takes: of an otherwise quiet machine, what an inference costs. The counters step about every
millisecond and begin again at 0 when they are full, so a reading lasts tens of milliseconds to minutes.
Where there are none (most virtual machines) or they may not be read, the answer is None and why, never 0.

Source: Linux, Documentation/power/powercap/powercap.rst; that a user may not read the counters is the answer to
CVE-2020-8694.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bnas.measure import timing

POWERCAP = Path("/sys/class/powercap")
_LONGEST_S = 60.0  # a counter of 65 kJ at 400 W is full after 3 minutes; twice full would not be seen


@dataclass(frozen=True, kw_only=True)
class Energy:
    """`mj`: millijoules of one inference; None where it cannot be read, and then `why_not` says why.

    `watts` is the mean power meanwhile, `zones` what was read ("package-0", "dram"), `inferences` how many
    inferences the reading was of.
    """

    mj: float | None
    watts: float | None = None
    zones: tuple[str, ...] = ()
    inferences: int = 0
    why_not: str = ""


@dataclass(frozen=True)
class Counter:
    """One counter of energy: its zone's name, its file, and the microjoules at which it begins again at 0."""

    name: str
    file: Path
    full_uj: int

    def read(self) -> int:
        """Microjoules. Raises OSError or ValueError where that cannot be read."""
        return int(self.file.read_text())

    def since(self, before_uj: int, now_uj: int) -> int:
        """Microjoules between two readings, of which the counter was full at most once."""
        return now_uj - before_uj if now_uj >= before_uj else now_uj + self.full_uj - before_uj


def counters(root: Path = POWERCAP) -> tuple[tuple[Counter, ...], str]:
    """The counters to add up, each readable; where there are none, () and the reason.

    They are the packages, and the memory (dram) inside each, which a package's counter leaves out. Cores are
    part of their package; the whole platform (psys) holds the packages; intel-rapl-mmio shows the same ones
    again.
    """
    found = []
    for zone in sorted(root.glob("*-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            if name.startswith("package") or name == "dram":
                full = int((zone / "max_energy_range_uj").read_text())
                found.append(Counter(name, zone / "energy_uj", full))
                found[-1].read()
        except PermissionError:
            return (), (
                f"this user may not read {zone / 'energy_uj'}; the machine's administrator can allow it: "
                f"sudo chmod a+r {root}/*/energy_uj"
            )
        except (OSError, ValueError) as error:
            return (), f"the energy counter in {zone} cannot be read: {_reason(error)}"
    if not found:
        return (), f"this machine shows no energy counters (RAPL) in {root}, as is usual in virtual machines"
    return tuple(found), ""


def energy_of(run: Callable[[], object], *, seconds: float = 0.3, root: Path = POWERCAP) -> Energy:
    """Energy of an inference: the mean of those done in about `seconds`, at least one.

    `run` is a warm `Runner`: one call does `inferences` of them, or one. It does not run at all where energy
    cannot be read.
    """
    zones, why_not = counters(root)
    if not zones:
        return Energy(mj=None, why_not=why_not)
    calls, end = 0, 0.0
    try:
        before = [counter.read() for counter in zones]
        begin = timing.now()
        while calls == 0 or end - begin < min(seconds, _LONGEST_S):
            run()
            calls, end = calls + 1, timing.now()
        spent = sum(counter.since(was, counter.read()) for counter, was in zip(zones, before, strict=True))
    except (OSError, ValueError) as error:
        return Energy(mj=None, why_not=f"the energy counters in {root} stopped answering: {_reason(error)}")
    if spent == 0:  # as some virtual machines show them
        return Energy(mj=None, why_not=f"the energy counters in {root} stand still")
    inferences = calls * int(getattr(run, "inferences", 1))
    return Energy(
        mj=spent / 1000 / inferences,
        watts=spent / 1e6 / (end - begin) if end > begin else None,
        zones=tuple(counter.name for counter in zones),
        inferences=inferences,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or errno.errorcode.get(error.errno or 0, "") or str(error)
    return f"no number: {error}"
