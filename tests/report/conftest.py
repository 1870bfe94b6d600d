"""A report with plausible numbers, made by formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bnas.report import EvaluationPoint, FrontPoint, Report, SubnetReport, subnet_report

CHOICES = {
    f"layer{stage}.{part}": largest
    for stage, width in enumerate((32, 64, 128), start=1)
    for part, largest in (("depth", 3), ("width", width), ("0.conv1.width", width), ("1.conv1.width", width))
}


def _network(name: str, share: float, top1: float, reference: SubnetReport | None = None) -> SubnetReport:
    latency = 1.62 * share
    return subnet_report(
        name=name,
        config={choice: max(1, round(share * largest)) for choice, largest in CHOICES.items()},
        top1_fp32_percent=top1,
        top1_int8_percent=top1 - 0.12,
        latency_ms=latency,
        latency_p10_ms=latency * 0.98,
        latency_p90_ms=latency * 1.06,
        latency_fp32_ms=4.87 * share,
        throughput_per_s=1250 / share,
        macs=int(48_600_000 * share**1.6),
        parameters=int(1_230_000 * share**1.8),
        size_bytes=int(1_410_000 * share**1.8),
        command=f"python -m bnas extract run=runs/quickstart name={name}",
        reference=reference,
        predicted_latency_ms=None if reference is None else latency * 1.03,
        latency_fp32_p10_ms=None if reference is not None else 4.8,
        latency_fp32_p90_ms=None if reference is not None else 5.1,
    )


def _top1(share: float) -> float:
    return 92.3 - 7.0 * (1 - share) ** 3


@pytest.fixture(scope="session")
def make_report() -> Callable[..., Report]:
    def make(**changed: Any) -> Report:
        rng = np.random.default_rng(0)
        reference = _network("reference", 1.0, 92.1)
        chosen = {"A": 0.72, "B": 0.52, "C": 0.18}
        shares = sorted((*chosen.values(), 0.23, 0.29, 0.34, 0.41, 0.47, 0.62))
        name_of = {share: name for name, share in chosen.items()}
        front = tuple(
            FrontPoint(
                config_digest=f"{i:016x}",
                metric_percent=_top1(share),
                predicted_latency_ms=1.62 * share * (1.03 - 0.06 * (i % 3 == 0)),
                top1_int8_percent=_top1(share) - 0.1 - 0.05 * (i % 2),
                latency_ms=1.62 * share,
                latency_p10_ms=1.62 * share * 0.98,
                latency_p90_ms=1.62 * share * 1.06,
                names=(name_of[share],) if share in name_of else (),
            )
            for i, share in enumerate(shares)
        )
        evaluations = tuple(
            EvaluationPoint(metric_percent=_top1(s) - 6 * float(rng.random()) ** 2, latency_ms=1.68 * s)
            for s in rng.uniform(0.17, 1, 160)
        )
        values: dict[str, Any] = {
            "run": "quickstart",
            "dataset": "Fashion-MNIST, 12 000 images",
            "reference": reference,
            "subnets": tuple(_network(n, s, _top1(s) - 0.15, reference) for n, s in chosen.items()),
            "reference_val_fp32_percent": 92.3,
            "reference_val_int8_percent": 92.2,
            "front": front,
            "evaluations": evaluations,
            "hypervolume": tuple((0.78 * (1 - 0.5 * np.exp(-np.arange(160) / 40))).tolist()),
            "hardware": {
                "cpu": "Xeon Platinum 8380",
                "cores": 2,
                "flags": ["avx512f", "avx512_vnni"],
                "runtime": {"name": "OpenVINO", "version": "2026.4.0"},
            },
            "protocol": {
                "batch": 1,
                "threads": 2,
                "precision": "int8",
                "blocks": 20,
                "interleaved": True,
                "search images": "2000 validation images",
                "report images": "2000 test images",
            },
            "latency_model": {
                "features": ["MACs", "bytes", "layers"],
                "held out": {"mape_percent": 2.4, "within_10_percent": 97.5, "kendall_tau": 0.951},
            },
            "space": {"size": 3_188_646, "choices": 12, "dims": ["depth", "width"]},
            "notes": ("Latencies were measured on a machine that other programs were using.",),
        }
        return Report(**{**values, **changed})

    return make
