from __future__ import annotations

import json

import pytest

from bnas.errors import RunError
from bnas.files import read_json
from bnas.report import Report, write_report

KEYS = {
    "name",
    "metric_fp32_percent",
    "metric_int8_percent",
    "latency_ms",
    "latency_fp32_ms",
    "throughput_per_s",
    "macs",
    "parameters",
    "size_bytes",
    "speedup_vs_fp32",
    "speedup_vs_int8",
    "predicted_latency_ms",
}


def test_report_json_has_the_promised_keys(make_report, tmp_path):
    path, _ = write_report(make_report(), tmp_path)
    assert path == tmp_path / "report.json"
    written = json.loads(path.read_text())
    assert written["reference"]["name"] == "reference"
    assert [subnet["name"] for subnet in written["subnets"]] == ["A", "B", "C"]
    for network in (written["reference"], *written["subnets"]):
        assert network.keys() >= KEYS
    assert written["hardware"]["cpu"] == "Xeon Platinum 8380"
    assert written["protocol"]["batch"] == 1


def test_speed_ups_are_against_the_original(make_report):
    report = make_report()
    reference, b = report.reference, report.subnets[1]
    assert b.latency_ms == pytest.approx(0.52 * 1.62)
    assert b.speedup_vs_int8 == pytest.approx(1 / 0.52)
    assert b.speedup_vs_fp32 == pytest.approx(4.87 / (0.52 * 1.62))
    assert reference.speedup_vs_int8 == 1.0
    assert reference.speedup_vs_fp32 == pytest.approx(4.87 / 1.62)


def test_the_file_gives_the_report_back_and_equal_reports_give_equal_files(make_report, tmp_path):
    one = write_report(make_report(), tmp_path / "one")
    two = write_report(make_report(), tmp_path / "two")
    assert read_json(one[0], Report) == make_report()
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_folder_that_cannot_be_written(make_report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*report\.json"):
        write_report(make_report(), tmp_path / "file")
