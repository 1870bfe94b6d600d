from __future__ import annotations

import importlib
import json
import re
from dataclasses import replace
from html import unescape

import pytest
from plotly.offline import get_plotlyjs

from bnas.errors import MissingPackageError
from bnas.plain import from_plain, to_plain
from bnas.report import LatencyReport, PredictorError, write_latency
from bnas.report.latency import latency_page

EVIL = "</script><img src=x onerror=alert(1)>"


def own_part(html):
    return html.replace(get_plotlyjs(), "")


def figures(html):
    return json.loads(re.search(r'id="figures">(.*?)</script>', html, re.S)[1])


def rows(html):
    found = re.findall(r'<tr[^>]*><th scope="row">.*?</tr>', html)
    return [re.findall(r">([^<>]+)</t[hd]>", row) for row in found]


def test_every_figure_has_its_place_and_every_place_its_figure(make_latency):
    html = own_part(latency_page(make_latency()))
    assert re.findall(r'<div class="plot \w+"><div id="([^"]+)">', html) == list(figures(html))
    assert len(figures(html)) == 6


def test_the_tables_have_the_numbers(make_latency):
    html = own_part(latency_page(make_latency()))
    found = rows(html)
    assert found[0] == ["Gaussian process", "40", "0.50 %", "90.0 %", "100.0 %", "0.980", "95.0 %"]
    assert found[1] == ["a line through MACs", "40", "2.50 %", "50.0 %", "100.0 %", "0.940", "–"]
    assert ["ridge", "40", "0.75 %", "–", "–", "–", "–"] in found
    assert ["together", "1.625 s", "1.625 s", "97.5 s"] in found


def test_no_line_of_the_headline_begins_with_a_per_cent_sign(make_latency):
    html = own_part(latency_page(make_latency()))
    assert "off by 0.50\u00a0% on average" in re.search("<h1>(.*?)</h1>", html)[1]


def test_the_baselines_stand_back(make_latency):
    html = own_part(latency_page(make_latency(kinds=())))
    assert re.findall(r'<tr class="reference"><th scope="row">(.*?)</th>', html) == [
        "a line through MACs",
        "a table of layers",
    ]


def test_subnets_that_are_predicted_worst_come_first(make_latency):
    report = make_latency()
    worst = replace(report.subnets[31], predicted_ms=2 * report.subnets[31].measured_ms)
    subnets = (*report.subnets[:31], worst, *report.subnets[32:])
    html = own_part(latency_page(replace(report, subnets=subnets)))
    listed = [row for row in rows(html) if re.fullmatch(r"0{6}[0-9a-f]{2}", row[0])]
    assert len(listed) == 60
    assert listed[0][5] == f"{worst.predicted_ms:.3f}"
    assert listed[0][6] == "+100.00 %"


def test_what_was_not_read_has_no_column(make_latency):
    report = make_latency()
    assert ">memory</th>" not in latency_page(report)
    subnets = (replace(report.subnets[0], memory_bytes=41_200_000), *report.subnets[1:])
    html = own_part(latency_page(replace(report, subnets=subnets)))
    assert ">memory</th>" in html
    assert ">41.2 MB</td>" in html


def test_the_lead_tells_how_many_were_held_out_and_the_noise(make_latency):
    html = own_part(latency_page(make_latency()))
    assert "60 subnets were timed beside a reference; 20 of them were drawn at random and held out" in html
    assert "two timings of one subnet differ by 0.40 %." in html
    assert "(95 % of the held-out ones do)" in html


def test_names_are_escaped_everywhere(make_latency):
    errors = tuple(PredictorError(kind=EVIL, samples=n, mape_percent=1.0) for n in (10, 20))
    evil = make_latency(
        run=EVIL, hw=EVIL, kind=EVIL, kinds=errors, held_out=errors, learning=errors, notes=(EVIL,),
        hardware={"cpu": EVIL}, protocol={EVIL: EVIL},
    )  # fmt: skip
    subnets = tuple(replace(s, config_digest=EVIL, seconds={EVIL: 1.0}) for s in evil.subnets)
    html = own_part(latency_page(replace(evil, subnets=subnets)))
    assert "<img" not in html
    assert html.count("</script>") == 3
    assert EVIL in unescape(html)
    assert "<img" not in json.dumps(figures(html))


def test_the_page_asks_for_nothing(make_latency):
    html = own_part(latency_page(make_latency()))
    assert "http" not in html.replace('http-equiv="Content-Security-Policy"', "")
    assert "default-src 'none'" in html


def test_a_campaign_without_a_predictor_is_still_a_page(make_latency):
    report = make_latency(subnets=(), held_out=(), kinds=(), learning=(), hardware={}, protocol={}, notes=())
    html = own_part(latency_page(report))
    assert figures(html) == {}
    assert "<table" not in html


def test_it_is_written_into_the_folder(make_latency, tmp_path):
    path = write_latency(make_latency(), tmp_path)
    assert path == tmp_path / "latency.html"
    assert path.read_text(encoding="utf-8") == latency_page(make_latency())


def test_a_report_is_plain_data(make_latency):
    assert from_plain(LatencyReport, json.loads(json.dumps(to_plain(make_latency())))) == make_latency()


def test_without_plotly_it_says_what_to_install(make_latency, tmp_path, monkeypatch):
    def not_there(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="plotly")

    monkeypatch.setattr(importlib, "import_module", not_there)
    with pytest.raises(MissingPackageError, match=r"plotly is not installed; .* 'bnas\[report\]'"):
        write_latency(make_latency(), tmp_path)
    assert list(tmp_path.iterdir()) == []
