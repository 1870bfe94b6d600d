from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest

from bnas import progress
from bnas.progress import bar, enable, say


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def shown() -> Iterator[None]:
    enable()
    yield
    enable(False)


def test_silent_unless_enabled(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("train", 3) as step:
        step()
        step(2, note="loss 1")
    say("made something")
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("shown")
def test_a_pipe_gets_a_plain_line_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(progress, "now", clock)
    with bar("train", 400) as step:
        step(100)  # a resumed stage skips over these at once: they say nothing of the speed
        for second in range(20):
            clock.time += 1
            step(5, note=f"loss {second}")
    assert capsys.readouterr().err.splitlines() == [
        "train  150/400  37%  0:50 left  loss 9",
        "train  200/400  50%  0:40 left  loss 19",
        "train  200/400  50%  0:40 left  loss 19",
    ]


@pytest.mark.usefixtures("shown")
def test_a_short_stage_prints_no_lines_to_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("build", 2) as step:
        step(2)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("shown")
def test_hours_are_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(progress, "now", clock)
    with bar("train", 1000) as step:
        step()
        clock.time += 10
        step()
    assert "2:46:20 left" in capsys.readouterr().err


@pytest.mark.usefixtures("shown")
def test_a_terminal_gets_a_bar_and_nested_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with bar("train [x]", 4) as step:
        step(3, note="loss [0.31]")
        with bar("evaluate", 2) as inner:
            inner()
            assert progress._screen.live is not None
            progress._screen.live.refresh()
            say("made [a] file")
    text = terminal.getvalue()
    for part in ("train [x]", "3/4", "loss [0.31]", "evaluate", "1/2", "made [a] file"):
        assert part in text
    assert progress._screen.live is None


@pytest.mark.usefixtures("shown")
def test_an_error_inside_a_bar_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyError), bar("train", 4):
        raise KeyError
    assert progress._screen.live is None
    assert sys.stderr.__class__ is Terminal


@pytest.mark.usefixtures("shown")
def test_say_prints_the_line_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say("[bold]5 %[/bold] :smile: " + "x" * 200)
    assert capsys.readouterr().out == "[bold]5 %[/bold] :smile: " + "x" * 200 + "\n"
