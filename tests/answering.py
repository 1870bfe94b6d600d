"""A queue that answers LoadGen without any network: one thread, and its own timestamps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import Queue

import numpy as np
import torch

from bnas.load import Samples

CLASSES = 5


class Answering:
    """Answers each image with the class that its first pixel names; notes when each inference began and ended.

    fails_at: the inference, counted from 0, whose start raises; seconds: what an inference takes.
    """

    def __init__(self, batch: int = 1, *, seconds: float = 0.0, fails_at: int | None = None) -> None:
        self.batch, self._seconds, self._fails_at = batch, seconds, fails_at
        self.spans: list[tuple[float, float]] = []
        self.sizes: list[int] = []
        self.seen: list[int] = []
        self._work: Queue[tuple[float, list[np.ndarray], Callable[[np.ndarray], None]]] = Queue()
        threading.Thread(target=self._loop, daemon=True).start()

    def start(self, images: Sequence[np.ndarray], done: Callable[[np.ndarray], None]) -> None:
        if len(self.sizes) == self._fails_at:
            raise RuntimeError("no such network")
        self.sizes.append(len(images))
        self._work.put((time.perf_counter(), list(images), done))

    def wait(self) -> None:
        self._work.join()

    def _loop(self) -> None:
        while True:
            began, images, done = self._work.get()
            time.sleep(self._seconds)
            classes = [int(image.flat[0]) for image in images]
            self.seen += classes
            self.spans.append((began, time.perf_counter()))
            done(np.eye(CLASSES, dtype=np.float32)[classes])
            self._work.task_done()

    @property
    def latencies_ms(self) -> list[float]:
        """Ascending."""
        return sorted(1000 * (end - began) for began, end in self.spans)


def numbered(count: int, wrong: int = 0) -> Samples:
    """Images whose first pixel is their label, index mod 5; the labels of the first `wrong` are others."""

    def load(indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        own = torch.tensor([index % CLASSES for index in indices])
        labels = [(index + (index < wrong)) % CLASSES for index in indices]
        return own.float().reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2), torch.tensor(labels)

    return Samples(count=count, load=load)
