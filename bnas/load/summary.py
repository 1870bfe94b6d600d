"""LoadGen's logs as numbers: mlperf_log_summary.txt, mlperf_log_detail.txt and mlperf_log_accuracy.json."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bnas.errors import MeasureError, RunError
from bnas.load.loadgen import LOGS

_MARK = ":::MLLOG "
AGAIN = "run it again with: python -m bnas bench --force"


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """What LoadGen says of one test in performance mode.

    `valid`, and why not: `reasons`, LoadGen's own words. Latencies are of queries, from when a query was due to its
    answer: of 1 image in SingleStream and Server, of a whole query in MultiStream; in Offline, where all images are
    asked at once, the time from the start of the test to an answer. `samples_per_s`: images answered per second.
    """

    scenario: str
    valid: bool
    reasons: tuple[str, ...]
    samples_per_s: float
    queries: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


def read_result(folder: Path) -> LoadResult:
    """What the logs in `folder` say.

    Raises:
        RunError: they are missing or incomplete.
    """
    path = folder / f"{LOGS}detail.txt"
    found = _entries(path)
    try:
        scenario = str(found["effective_scenario"])
        per_query = scenario == "MultiStream"
        part, kind = ("per_query_", "query_") if per_query else ("", "")

        def ms(percentile: str) -> float:
            return float(found[f"result_{percentile}_percentile_{part}latency_ns"]) / 1e6

        mean_ms = float(found[f"result_mean_{kind}latency_ns"]) / 1e6
        rates = {
            "SingleStream": "result_qps_with_loadgen_overhead",
            "Server": "result_completed_samples_per_sec",
            "Offline": "result_samples_per_second",
        }
        rate = (
            1000 * int(found["effective_samples_per_query"]) / mean_ms
            if per_query
            else float(found[rates[scenario]])
        )
        valid = found["result_validity"] == "VALID"
        return LoadResult(
            scenario=scenario,
            valid=valid,
            reasons=() if valid else _reasons(folder / f"{LOGS}summary.txt") + _errors(path),
            samples_per_s=rate,
            queries=int(found["result_query_count"]),
            mean_ms=mean_ms,
            p50_ms=ms("50.00"),
            p90_ms=ms("90.00"),
            p99_ms=ms("99.00"),
            max_ms=float(found[f"result_max_{kind}latency_ns"]) / 1e6,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is incomplete: no {error}; {AGAIN}") from error


def read_answers(folder: Path) -> dict[int, int]:
    """The class that was answered for each image, by its index, from LoadGen's accuracy log.

    Images that LoadGen asked more than once (it fills up the last query of MultiStream) count once.

    Raises:
        RunError: the log is missing or damaged.
        MeasureError: what was answered is no class.
    """
    path = folder / f"{LOGS}accuracy.json"
    try:
        entries = json.loads(path.read_text())
        answers = {int(entry["qsl_idx"]): bytes.fromhex(entry["data"]) for entry in entries}
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}; {AGAIN}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}; {AGAIN}") from error
    for index, data in answers.items():
        if len(data) != np.dtype(np.int64).itemsize:
            raise MeasureError(
                f"{path}: image {index} was answered with {len(data)} bytes, not with a class; this network is no "
                "classifier: use load.accuracy=false"
            )
    return {index: int(np.frombuffer(data, "<i8")[0]) for index, data in answers.items()}


def top1_percent(answers: Mapping[int, int], labels: Mapping[int, int]) -> float:
    """How many per cent of the images in `labels` were answered with their label.

    Raises:
        MeasureError: some were not answered.
    """
    missing = len(labels.keys() - answers.keys())
    if missing or not labels:
        raise MeasureError(f"LoadGen's accuracy log lacks {missing} of {len(labels)} images")
    return 100 * sum(answers[index] == label for index, label in labels.items()) / len(labels)


def _entries(path: Path) -> dict[str, Any]:
    """The last value of every key."""
    return {str(entry["key"]): entry.get("value") for entry in _lines(path)}


def _errors(path: Path) -> tuple[str, ...]:
    entries = (entry for entry in _lines(path) if entry.get("metadata", {}).get("is_error"))
    return tuple(" ".join(str(entry.get("value")).split()) for entry in entries)


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(errors="replace")
        return [json.loads(line[len(_MARK) :]) for line in text.splitlines() if line.startswith(_MARK)]
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}; {AGAIN}") from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}; {AGAIN}") from error


def _reasons(path: Path) -> tuple[str, ...]:
    """What LoadGen's summary has between its verdict and the statistics: what is not satisfied, and what to do."""
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}; {AGAIN}") from error
    verdict = text.partition("Result is : INVALID\n")[2].partition("\n\n")[0]
    failed = re.findall(r"^\s*(.+?) satisfied ?: NO$", verdict, re.M)
    advice = verdict.partition("Recommendations:\n")[2].replace("Early Stopping Result:\n", "")
    words = [" ".join(part.split()) for part in re.split(r"^ \* ", advice, flags=re.M)]
    return (*(f"{what} not satisfied" for what in failed), *(own for own in words if own))
