"""An evaluation that worker processes make by themselves, and can be told to die in: values by formula."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bnas.errors import ConfigError, MeasureError, RunError
from bnas.space import SubnetConfig

FACTORY = "evaluation_by_formula:evaluation"
Truth = Callable[..., dict[str, float]]


def formula(config: SubnetConfig, share: float = 1.0) -> dict[str, float]:
    """Wider is better and slower, with interactions of neighbours."""
    x = [value / 64 for value in config.values.values()]
    top1 = 70 + sum((i + 1) * value**0.5 for i, value in enumerate(x)) - 0.3 * x[0] * x[-1]
    latency = 0.3 + sum((1 + i % 3) * value for i, value in enumerate(x)) + 0.2 * x[0] * x[1]
    error = {} if share == 1 else {"top1_percent_error": 1 / (100 * share)}
    return {"top1_percent": top1 + (1 - share), "latency_ms": latency, **error}


def evaluation(
    folder: str,
    *,
    lose: Mapping[str, int] | None = None,
    hold: str = "",
    together: int = 0,
    backwards: bool = False,
    odd: Mapping[str, str] | None = None,
    begins: bool = True,
) -> Truth:
    """`formula`, which notes in `folder`/asked who is asked for which subnet ("process digest").

    Args:
        lose: so many times the process is killed that begins to evaluate the subnet with this digest.
        hold: this subnet's evaluation lasts until there is a file `folder`/go_on.
        together: the first evaluation of each process lasts until so many processes are in one.
        backwards: the first evaluation of all lasts until another has ended.
        odd: what happens to a subnet: "fails", "nan", "option", "bug".
        begins: False: the evaluation cannot be made.
    """
    place, me = Path(folder), str(os.getpid())
    if not begins:
        raise RunError(f"{folder} holds no run")

    def evaluate(config: SubnetConfig, share: float = 1.0) -> dict[str, float]:
        with (place / "asked").open("a") as file:
            file.write(f"{me} {config.digest}\n")
        first = not (place / f"in.{me}").exists()
        (place / f"in.{me}").touch()
        deaths = (lose or {}).get(config.digest, 0)
        if len(list(place.glob(f"dead.{config.digest}.*"))) < deaths:
            (place / f"dead.{config.digest}.{me}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        while first and len(list(place.glob("in.*"))) < together:
            time.sleep(0.02)
        while hold == config.digest and not (place / "go_on").exists():
            time.sleep(0.02)
        asked = (place / "asked").read_text().split()
        while backwards and config.digest == asked[1] and not (place / "ended").exists():
            time.sleep(0.02)
        (place / "ended").touch()
        what = (odd or {}).get(config.digest, "")
        if what == "fails":
            raise MeasureError("this network cannot be converted")
        if what == "option":
            raise ConfigError("hw.backend: no such backend")
        if what == "bug":
            {}["no such key"]
        values = formula(config, share)
        if what == "nan":
            values["top1_percent"] = float("nan")
        return {**values, "threads": float(os.environ["OMP_NUM_THREADS"])}

    return evaluate
