"""What quantizers compute with, and what happens where NNCF's extension cannot be compiled."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bnas import progress
from bnas.quantize.nncf_backend import nncf_torch
from bnas.quantize.nncf_extension import LIMIT_VARIABLE, arithmetic

# NNCF leaves its pool of threads open where it could not compile, and it goes whenever Python collects it
pytestmark = pytest.mark.filterwarnings("ignore:unclosed running multiprocessing pool:ResourceWarning")


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """NNCF's functions for the CPU, as in a process and on a machine where nothing was compiled."""
    nncf_torch()
    from nncf.torch.quantization import extensions

    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(extensions.QuantizedFunctionsCPU, "_loaded_namespace", None)
    progress.enable()
    yield extensions.QuantizedFunctionsCPU
    progress.enable(False)
    gc.collect()  # what NNCF has left open, while its warning is ignored


def quantized() -> torch.Tensor:
    from nncf.torch.quantization.quantize_functions import symmetric_quantize

    return symmetric_quantize(
        torch.tensor([-3.0, -0.25, 0.3, 5.0]), 255, -127, 127, torch.tensor([1.27]), 0.0
    )


def test_the_extension_gives_the_same_where_it_was_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first in this file: after another try to compile it torch would compile it under another name."""
    nncf_torch()
    from nncf.torch.quantization import extensions

    own = extensions.QuantizedFunctionsCPU
    library = Path(own._loader.get_build_dir()) / f"{own._loader.name()}.so"
    if not library.exists() or shutil.which("ninja") is None:
        pytest.skip("NNCF's extension was never compiled on this machine (it takes a minute)")
    monkeypatch.setattr(own, "_loaded_namespace", None)
    with arithmetic("cpu", "always"):
        assert "quantized_functions_cpu" in own._loaded_namespace.__file__
        compiled = quantized()
    with arithmetic("cpu", "never"):
        torch.testing.assert_close(quantized(), compiled)


def test_torchs_own_operations_round_to_steps_and_nothing_is_compiled(
    functions: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    with arithmetic("cpu"):
        torch.testing.assert_close(quantized(), torch.tensor([-1.27, -0.25, 0.3, 1.27]))
    assert functions._loaded_namespace is None
    assert capsys.readouterr().out == ""


def test_ranges_learn_from_what_is_beyond_them(functions: Any) -> None:
    """Straight-through inside the range, and the range's gradient outside of it (Jain et al. 2019, eq. 6)."""
    from nncf.torch.quantization.quantize_functions import symmetric_quantize

    x = torch.tensor([-3.0, -0.25, 0.3, 5.0], requires_grad=True)
    scale = torch.tensor([1.27], requires_grad=True)
    with arithmetic("cpu"):
        symmetric_quantize(x, 255, -127, 127, scale, 0.0).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 0]
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(1 - 1, abs=0.02)  # one above, one below


def test_without_a_compiler_a_line_says_what_is_missing_and_it_goes_on(
    functions: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with arithmetic("cpu", "always"):
        assert quantized().shape == (4,)
    (line,) = capsys.readouterr().out.splitlines()
    assert "c++ (apt-get install g++), ninja (pip install ninja)" in line
    assert "torch's own operations" in line


def test_a_compiler_that_fails_is_said(
    functions: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("ninja") is None:
        pytest.skip("ninja is not installed")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with arithmetic("cpu", "always"):
        assert quantized().shape == (4,)
    compiles, failed = capsys.readouterr().out.splitlines()
    assert "NNCF compiles its extension for cpu, once on this machine" in compiles
    assert "it could not be compiled (to try again: rm -r " in failed
    assert functions._loaded_namespace is None


def test_nncf_has_half_an_hour_for_it_unless_another_limit_was_set(
    functions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []

    def load() -> SimpleNamespace:
        limits.append(os.environ[LIMIT_VARIABLE])
        return SimpleNamespace(__file__="x.so", Quantize_forward=len, Quantize_backward=len)

    monkeypatch.setattr(functions._loader, "load", load, raising=False)
    Path(functions._loader.get_build_dir(), f"{functions._loader.name()}.so").touch()  # as if it was compiled
    monkeypatch.setenv(LIMIT_VARIABLE, "5")
    with arithmetic("cpu", "always"):
        functions._loaded_namespace = None
    monkeypatch.delenv(LIMIT_VARIABLE)
    with arithmetic("cpu", "always"):
        pass
    assert limits == ["5", "1800"]
