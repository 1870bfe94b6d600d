"""What runtimes say in their errors, as one line."""

from __future__ import annotations

import re

_LONG_ENOUGH, _MOST = 50, 240


def said(error: BaseException) -> str:
    """The first lines of an error's text, until they say something: torch and ONNX tell a story after that."""
    text = ""
    for line in str(error).splitlines():
        text = f"{text} {line.strip()}".strip()
        if len(text) >= _LONG_ENOUGH:
            break
    text = " ".join(text.split())
    return f"{text[:_MOST]}…" if len(text) > _MOST else text or type(error).__name__


def said_by_onnxruntime(error: BaseException) -> str:
    """`[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find …` without its codes and places in source files."""
    text = " ".join(str(error).split())
    if match := re.search(r"Opset (\d+) is under development.*? is till opset (\d+)", text):
        return f"it is of opset {match[1]}, known are those up to {match[2]}; export it with a smaller export.opset"
    if match := re.search(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)", text):
        return f"it is of IR version {match[1]}, known are those up to {match[2]}; use a newer ONNX Runtime"
    if "Protobuf parsing failed" in text:
        return "it is cut off, damaged, or no ONNX file; export it again"
    return text.rpartition(" : ")[2] or type(error).__name__
