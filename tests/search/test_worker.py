"""What a worker answers, asked in this process."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from evaluation_by_formula import FACTORY, formula

from bnas.search import Job
from bnas.search.worker import Answer, Place, Worker, decode, encode
from bnas.space import SubnetConfig
from bnas.version import __version__

SUBNET = SubnetConfig({"layer0.width": 8, "layer1.width": 64})


@pytest.fixture
def ask(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")

    def asked(request: Job, **arguments) -> Answer:
        worker = Worker()
        arguments = encode({"folder": str(tmp_path), **arguments})
        assert decode(Answer, worker.begin(FACTORY, arguments, 3, os.getcwd())) == Answer()
        return decode(Answer, worker.evaluate(encode(request)))

    return asked


def test_values(ask):
    assert ask(Job(SUBNET)).values == {**formula(SUBNET), "threads": 3}
    assert ask(Job(SUBNET, 0.25)).values == {**formula(SUBNET, 0.25), "threads": 3}


def test_values_that_are_no_numbers(ask):
    values = ask(Job(SUBNET), odd={SUBNET.digest: "nan"}).values
    assert values is not None
    assert math.isnan(values["top1_percent"])


def test_a_failure(ask):
    assert ask(Job(SUBNET), odd={SUBNET.digest: "fails"}) == Answer(
        failure="this network cannot be converted"
    )


def test_an_error_on_purpose(ask):
    answer = ask(Job(SUBNET), odd={SUBNET.digest: "option"})
    assert answer == Answer(error="hw.backend: no such backend", raised="ConfigError")


def test_a_bug(ask):
    answer = ask(Job(SUBNET), odd={SUBNET.digest: "bug"})
    assert answer.raised == ""
    kind, _, place = answer.error.partition(" (")
    assert kind == "KeyError: 'no such key'"
    assert place.startswith("evaluation_by_formula.py:")
    assert place.endswith(", in evaluate)")
    assert answer.trace.startswith("Traceback")
    assert '{}["no such key"]' in answer.trace


@pytest.mark.parametrize(
    ("factory", "arguments", "error"),
    [
        ("no.such.module:evaluation", {}, "ModuleNotFoundError: No module named 'no'"),
        (
            "evaluation_by_formula:evaluate",
            {},
            "AttributeError: module 'evaluation_by_formula' has no attribute 'evaluate'",
        ),
        (FACTORY, {"begins": False}, "/run holds no run"),
        (FACTORY, {"other": 1}, "TypeError: evaluation() got an unexpected keyword argument 'other'"),
    ],
)
def test_an_evaluation_that_cannot_be_made(monkeypatch, factory, arguments, error):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    answer = decode(Answer, Worker().begin(factory, encode({"folder": "/run", **arguments}), 1, ""))
    assert answer.error.startswith(error)
    assert answer.raised == ("RunError" if "/run" in error else "")


def test_paths_are_relative_to_the_folder_of_who_asks(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.chdir(tmp_path)  # back again at the end
    (tmp_path / "there").mkdir()
    Worker().begin(FACTORY, encode({"folder": ""}), 1, str(tmp_path / "there"))
    assert Path.cwd() == tmp_path / "there"
    Worker().begin(FACTORY, encode({"folder": ""}), 1, str(tmp_path / "elsewhere"))  # of another machine
    assert Path.cwd() == tmp_path / "there"


def test_torch_keeps_to_the_workers_threads(monkeypatch, tmp_path):
    """Even where making the evaluation gave it all cores, as to open a run does."""
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    asked = []
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(set_num_threads=asked.append))
    Worker().begin(FACTORY, encode({"folder": str(tmp_path)}), 2, "")
    assert asked == [2]


def test_where_it_is():
    place = decode(Place, Worker().where())
    assert place.version == __version__
    assert place.host
