"""A report with plausible numbers, made by formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bnas.accuracy import wilson
from bnas.report import (
    EvaluationPoint,
    FileReport,
    FrontPoint,
    LatencyReport,
    PredictorError,
    Report,
    SubnetReport,
    TimedSubnet,
    subnet_report,
)
from bnas.report.card import (
    Calibration,
    CardArtefact,
    CardData,
    CardFile,
    CardNetwork,
    Command,
    Licence,
    ModelCard,
)
from bnas.report.importance import importance_of
from bnas.search import Constraint, Round, objective
from bnas.space import Choice

CHOICES = tuple(
    Choice(
        name=f"layer{stage}.{part}",
        dim=part.rpartition(".")[2],
        values=values,
        targets=(f"layer{stage}.1", f"layer{stage}.2", f"layer{stage}.3")
        if part == "depth"
        else (f"layer{stage}.{part}".removesuffix(".width"),),
    )
    for stage, width in enumerate((32, 64, 128), start=1)
    for part, values in (
        ("depth", (0, 1, 2, 3)),
        *(
            (f"{block}.width", tuple(width * i // 4 for i in (1, 2, 3, 4)))
            for block in ("0.conv1", "1.conv1", "3.conv1")
        ),
    )
)
FILES = ("fp32.bin", "fp32.xml", "int8.bin", "int8.xml", "subnet.json", "weights.safetensors")


def _index(share: float, choice: Choice) -> int:
    """The place of the value that keeps about that share."""
    last = len(choice.values) - 1
    return min(last, max(0, round(share * (last + 1) - 1)))


def _network(name: str, share: float, top1: float, reference: SubnetReport | None = None) -> SubnetReport:
    latency = 1.62 * share
    made = subnet_report(
        name=name,
        config={choice.name: choice.values[_index(share, choice)] for choice in CHOICES},
        metric_fp32_percent=top1,
        metric_int8_percent=top1 - 0.12,
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
    files = (FileReport(path=f"subnets/{name}/{file}", size_bytes=int(1e6 * share)) for file in FILES)
    return replace(made, files=tuple(files))


def _top1(share: float) -> float:
    return 92.3 - 7.0 * (1 - share) ** 3


def _evaluated(
    number: int, share: float, rng: np.random.Generator, front: tuple[FrontPoint, ...]
) -> EvaluationPoint:
    """An evaluation; the first of them are the front's members, as the search saw them."""
    near = np.clip(share + 0.12 * rng.normal(size=len(CHOICES)), 0, 1)
    member = front[number] if number < len(front) else None
    latency = member.predicted_latency_ms if member else 1.68 * share
    return EvaluationPoint(
        metric_percent=member.metric_percent if member else _top1(share) - 6 * float(rng.random()) ** 2,
        latency_ms=latency,
        config_digest=member.config_digest if member else f"{1000 + number:016x}",
        indices=tuple(_index(float(own), choice) for own, choice in zip(near, CHOICES, strict=True)),
        latency_low_ms=0.96 * latency,
        latency_high_ms=1.05 * latency,
        macs=int(48_600_000 * share**1.6),
    )


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
                metric_int8_percent=_top1(share) - 0.1 - 0.05 * (i % 2),
                latency_ms=1.62 * share,
                latency_p10_ms=1.62 * share * 0.98,
                latency_p90_ms=1.62 * share * 1.06,
                names=(name_of[share],) if share in name_of else (),
            )
            for i, share in enumerate(shares)
        )
        drawn = np.concatenate([shares, rng.uniform(0.17, 1, 160 - len(shares))])
        evaluations = tuple(_evaluated(number, float(s), rng, front) for number, s in enumerate(drawn))
        indices = [e.indices for e in evaluations]
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
            "search": {"algorithm": "linas", "population": 20, "screen": 1.0, "seed": 0},
            "search_images": 2000,
            "report_images": 2000,
            "objectives": (objective("top1_percent"), objective("latency_ms")),
            "constraints": (Constraint(name="latency_ms", bound="<=", limit=1.5),),
            "failed": {"it gave top1_percent = nan": 2, "out of memory": 1},
            "rounds": tuple(
                Round(
                    evaluations=40 * number,
                    kendall_tau={"top1_percent": 0.5 + 0.08 * number, "latency_ms": 0.97},
                    mean_error={"top1_percent": 1.0 / number, "latency_ms": 0.01},
                )
                for number in (1, 2, 3, 4)
            ),
            "choices": CHOICES,
            "importance": tuple(
                importance_of(name, CHOICES, indices, values)
                for name, values in (
                    ("top1_percent", [e.metric_percent for e in evaluations]),
                    ("latency_ms", [e.latency_ms for e in evaluations]),
                )
            ),
            "notes": ("Latencies were measured on a machine that other programs were using.",),
        }
        return Report(**{**values, **changed})

    return make


@pytest.fixture(scope="session")
def make_latency() -> Callable[..., LatencyReport]:
    """A campaign of 60 subnets, every third of them held out, on a machine whose speed wanders."""

    def make(**changed: Any) -> LatencyReport:
        rng = np.random.default_rng(0)
        errors = {
            kind: PredictorError(
                kind=kind,
                samples=40,
                mape_percent=mape,
                within_2_percent=100 - 20 * mape,
                within_5_percent=100.0,
                kendall_tau=0.99 - mape / 50,
                covered_percent=95.0 if kind == "gaussian_process" else None,
            )
            for kind, mape in {"gaussian_process": 0.5, "macs_line": 2.5, "lookup": 1.5}.items()
        }
        values: dict[str, Any] = {
            "run": "quickstart",
            "hw": "cpu",
            "kind": "gaussian_process",
            "reference_ms": 1.6,
            "subnets": tuple(_timed(number, rng) for number in range(60)),
            "kinds": (
                errors["gaussian_process"],
                PredictorError(kind="ridge", samples=40, mape_percent=0.75),
            ),
            "held_out": tuple(errors.values()),
            "learning": tuple(
                PredictorError(kind=kind, samples=samples, mape_percent=error.mape_percent * 40 / samples)
                for kind, error in errors.items()
                for samples in (10, 20, 40)
            ),
            "noise_percent": 0.4,
            "hardware": {"cpu": "Xeon Platinum 8380", "physical_cores": 2},
            "protocol": {"backend": "openvino", "precision": "int8", "threads": 1},
            "notes": ("The clock speed was not readable.",),
        }
        return LatencyReport(**{**values, **changed})

    return make


def _timed(number: int, rng: np.random.Generator) -> TimedSubnet:
    measured = float(rng.uniform(0.4, 1.6))
    predicted = measured * (1 + 0.006 * float(rng.normal()))
    return TimedSubnet(
        config_digest=f"{number:016x}",
        role="held_out" if number % 3 == 2 else "fit",
        macs=int(3e7 * measured),
        measured_ms=measured,
        error_percent=0.3 + 0.1 * float(rng.random()),
        reference_ms=1.6 * (1 + 0.05 * float(np.sin(number / 9))),
        began=1_700_000_000.0 + 90 * number,
        seconds={"time": 0.75, "compile": 0.25, "deploy": 0.5, "extract": 0.125},
        rounds=20 + number,
        disturbed=number % 2,
        converged=number != 7,
        predicted_ms=predicted,
        low_ms=predicted * 0.98,
        high_ms=predicted * 1.02,
        macs_line_ms=measured * (1 + 0.03 * float(rng.normal())),
    )


@pytest.fixture
def card() -> Callable[[], ModelCard]:
    """Makes the card of a subnet B of two files, beside the original's two."""

    def network(name: str, time_ms: float, right: int) -> CardNetwork:
        low, high = wilson(right, 2000)
        return CardNetwork(
            name=name, path=f"subnets/B/{name}.xml", format="openvino_ir", precision="int8" if name == "int8" else "f32",
            digest="ab" * 32, size_bytes=123_456, metric_percent=right / 20, metric_low_percent=low, metric_high_percent=high,
            time_ms=time_ms, p10_ms=0.9 * time_ms, p90_ms=1.25 * time_ms, p99_ms=2 * time_ms, ratio=time_ms / 0.4,
            ratio_error_percent=0.7, converged=True, rounds=31, calls=837, throughput_per_s=5042.0,
            largest_difference=0.38, agreement_percent=97.2,
        )  # fmt: skip

    def make() -> ModelCard:
        return ModelCard(
            run="tiny", name="B", task="classification", model={"name": "tiny_resnet", "options": {}},
            weights="trained by this run on embedded from random weights", config={"layer1.depth": 1},
            diff="choice        original  B  of\nlayer1.depth  2         1  2", space="95870fb3159cb446", shape=(1, 32, 32),
            macs=9_093_360, parameters=21_834, original_macs=17_973_568, original_parameters=42_938,
            networks=(network("int8", 0.1, 1640), network("fp32", 0.3, 1647)),
            original=(network("int8", 0.4, 1660), network("fp32", 1.2, 1670)),
            others=(
                CardArtefact(
                    name="fp32.onnx", path="subnets/B/fp32.onnx", format="onnx", precision="f32", digest="ef" * 32,
                    size_bytes=90_000, largest_difference=5.6e-7, agreement_percent=100.0,
                ),
            ),
            speedup_vs_int8=4.0, speedup_vs_fp32=12.0,
            data=CardData(
                name="embedded", train_images=10_000, val_images=2000, test_images=2000, shape=(1, 32, 32),
                classes=("coat", "bag", "shirt"), mean=(0.286,), std=(0.353,),
            ),
            calibration=Calibration(images=100, split="training", norm_images=512, quantizer={"kind": "nncf_ptq"}),
            hardware={
                "cpu": "AMD EPYC", "cpus": [1], "flags": ["avx2", "avx512_vnni"], "memory_gib": 24, "os": "Linux 6.18",
                "runtime": "openvino", "runtime_version": "2026.4.1", "notes": [],
            },
            timing={"threads": 1, "batch": 1},
            made_by=(Command(does="train", command="python -m bnas train conf=runs/tiny/config.yaml"),),
            rebuilt_by=(Command(does="The network", command="python -c 'import bnas'"),),
            files=(CardFile(path="subnets/B/int8.xml", size_bytes=3, sha256="cd" * 32),),
            licences=(Licence(of="data", licence="not known", source="the images are yours"),),
            versions={"python": "3.12.1"}, options={"name": "tiny", "seed": 0}, notes=("A and B are the same subnet.",),
        )  # fmt: skip

    return make
