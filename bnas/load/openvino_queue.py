"""A network on OpenVINO's asynchronous queue: several inferences at once, each tells when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bnas.errors import ExportError, MeasureError
from bnas.export.openvino_runtime import core, last_line, openvino, read_network, set_batch

PACE_SECONDS = 0.2


class OpenVinoQueue:
    """The network in `path` (.xml or .onnx), compiled for `threads` threads of this CPU.

    hint: LATENCY compiles for one inference at a time on all threads, THROUGHPUT for `streams` of them (0: as many as
        OpenVINO thinks best). batch: images per inference. What is not INT8 runs in FP32.

    Raises:
        MeasureError: OpenVINO cannot read or run it, or not so many inferences at once.
    """

    def __init__(
        self,
        path: Path,
        *,
        hint: Literal["LATENCY", "THROUGHPUT"],
        threads: int,
        batch: int = 1,
        streams: int = 0,
    ) -> None:
        if streams > threads:
            raise MeasureError(
                f"load.streams: {streams} inferences at once need as many threads; this run has {threads} "
                "(hw.threads); 0 leaves their number to OpenVINO"
            )
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
        }
        wanted = 1 if hint == "LATENCY" else streams
        if wanted:
            options["NUM_STREAMS"] = wanted
        try:
            model = read_network(path)
            set_batch(model, batch)
            compiled = core().compile_model(model, "CPU", options)
            (inputs,) = compiled.inputs
            self.input_type = inputs.element_type.get_type_name()
            self.input_shape = tuple(int(size) for size in inputs.shape)
        except ExportError as error:
            raise MeasureError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from error
        except (RuntimeError, ValueError) as error:  # ValueError: it has several inputs
            raise MeasureError(f"OpenVINO cannot run {path}: {last_line(error)}") from error
        self.path, self.batch = path, batch
        self.streams = int(compiled.get_property("NUM_STREAMS"))
        if wanted and self.streams != wanted:
            raise MeasureError(
                f"load.streams: OpenVINO runs {self.streams} inferences at once on {threads} threads, not {wanted}"
            )
        self._queue = openvino().AsyncInferQueue(compiled)  # as many requests as OpenVINO recommends
        self._queue.set_callback(_finished)

    @property
    def requests(self) -> int:
        """How many inferences may be under way at once."""
        return len(self._queue)

    def check_takes(self, image: np.ndarray) -> None:
        """Raise MeasureError unless the network takes images like this one, float32 [1, C, H, W]."""
        if self.input_type != "f32" or self.input_shape[1:] != image.shape[1:]:
            raise MeasureError(
                f"{self.path} takes {self.input_type} {list(self.input_shape[1:])}, the run's images are f32 "
                f"{list(image.shape[1:])}; under load go networks without pre-processing built in, as A/int8"
            )

    def start(self, images: Sequence[np.ndarray], done: Callable[[np.ndarray], None]) -> None:
        """Start one inference on 1 to `batch` images [1, C, H, W]; waits while all requests are busy.

        `done` gets their outputs [n, ...] in one of the runtime's threads; the array is the runtime's own, and valid
        until `done` returns. What `done` raises is lost: it must not raise.
        """
        count = len(images)
        filled = [*images, *([images[-1]] * (self.batch - count))]
        whole = filled[0] if self.batch == 1 else np.concatenate(filled)
        self._queue.start_async(whole, (whole, count, done), share_inputs=True)

    def wait(self) -> None:
        """Return when nothing is under way any more."""
        self._queue.wait_all()

    def images_per_s(self, image: np.ndarray, seconds: float = PACE_SECONDS) -> float:
        """How many copies of `image` it runs per second, all requests busy, over about `seconds`, after a warm-up."""
        images = [image] * self.batch
        for _ in range(self.requests):
            self.start(images, _ignore)
        self.wait()
        began, count = time.perf_counter(), 0
        while count < self.requests or time.perf_counter() - began < seconds:
            self.start(images, _ignore)
            count += 1
        self.wait()
        return count * self.batch / (time.perf_counter() - began)


def _finished(request: Any, started: tuple[np.ndarray, int, Callable[[np.ndarray], None]]) -> None:
    _, count, done = started  # the images themselves are kept alive by this tuple until here
    done(request.get_output_tensor(0).data[:count])


def _ignore(outputs: np.ndarray) -> None:
    pass
