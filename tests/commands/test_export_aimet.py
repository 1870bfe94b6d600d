"""Encodings from the stage `export`: in a folder of their own, for every network of the run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_export import project as project  # a fixture

from bnas.commands import export as stage
from bnas.export import AimetEncodings, Artefact, check_digest
from bnas.export.artefact import files_of
from bnas.files import read_json
from bnas.quantize import Aimet


@pytest.mark.parametrize("also", [("aimet",), ()])
def test_encodings_beside_the_usual_files(project: Any, also: tuple[str, ...]) -> None:
    config = project.config
    if also:
        project.config = replace(config, export=replace(config.export, also=also))
    else:
        aimet = Aimet(samples=8, weight_bits=4, equalize=None)
        project.config = replace(config, export=AimetEncodings(version="1.0.0"), quantize=aimet)
    made = stage.export(project)
    assert "; encodings: batch norms folded: 3, pairs of layers equalized: 0" in made.line
    found = read_json(project.folder.path("subnets", "artefacts.json"), dict[str, dict[str, Artefact]])
    assert set(found["reference"]) == {"fp32", "int8", "int8.encodings"}
    own = found["reference"]["int8.encodings"]
    assert re.fullmatch(r"outputs/\d{8}-\d{6}/reference\.encodings", own.path)
    here = replace(own, path=str(project.folder.path(own.path)))
    check_digest(here)
    assert {str(path) for path in files_of(own)} <= set(made.paths)
    assert {path.name for path in Path(here.path).parent.iterdir()} == {path.name for path in files_of(own)}
    told = json.loads(Path(here.path).with_name("reference_params.json").read_text())["equalization"]
    assert told["folded"] == 3
    assert own.precision == ("int8" if also else "int4/int8")
    assert own.agreement_percent is not None
    assert own.agreement_percent >= 50
    bits = '"bitwidth": 8' if also else '"bw": 4'
    assert bits in Path(here.path).read_text()
