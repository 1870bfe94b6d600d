"""Every subnet that a search has looked at without evaluating it, each network once, as rows of arrays."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bnas.search.algorithms.linas.surrogates import Array, Codes, Encoding, Features, Rows
from bnas.search.problem import Problem
from bnas.space import SubnetConfig

T = TypeVar("T", bound=np.generic)


class Candidates:
    """Rows are given out in the order in which networks are first looked at."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.encoding = Encoding(problem)
        self.configs: list[SubnetConfig] = []
        self._row_of_code: dict[bytes, int] = {}
        self._codes = np.zeros((0, len(problem.space.bounds)), dtype=np.int64)
        self._cheap = np.zeros((0, len(self.encoding.names)))
        self._broken = np.zeros(0)

    def __len__(self) -> int:
        return len(self.configs)

    def look(self, codes: Codes) -> Rows:
        """The row of each of m codes [m, C]; codes of one network have one row."""
        keys = [code.tobytes() for code in np.ascontiguousarray(codes, dtype=np.int64)]
        new = {key: place for place, key in enumerate(keys) if key not in self._row_of_code}
        fresh: list[tuple[tuple[int, ...], list[float], float]] = []
        for key, place in new.items():
            config = self.problem.decode(codes[place].tolist())
            code = self.problem.space.encode(config)
            own = np.array(code, dtype=np.int64).tobytes()
            row = self._row_of_code.get(own)
            if row is None:
                row = len(self.configs)
                self.configs.append(config)
                cheap = self.problem.cheaply(config)
                values = [float(cheap[name]) for name in self.encoding.names]
                fresh.append((code, values, self.problem.violation(cheap)))
                self._row_of_code[own] = row
            self._row_of_code[key] = row
        if fresh:
            first, end = len(self.configs) - len(fresh), len(self.configs)
            self._codes = _roomy(self._codes, end)
            self._cheap, self._broken = _roomy(self._cheap, end), _roomy(self._broken, end)
            self._codes[first:end] = [own[0] for own in fresh]
            self._cheap[first:end] = [own[1] for own in fresh]
            self._broken[first:end] = [own[2] for own in fresh]
        return np.array([self._row_of_code[key] for key in keys], dtype=np.int64)

    def row(self, config: SubnetConfig) -> int:
        """The row of a config."""
        code = self.problem.space.encode(self.problem.canonical(config))
        return int(self.look(np.array([code], dtype=np.int64))[0])

    def codes(self, rows: Rows) -> Codes:
        """[m, C], of the configs that stand for the networks."""
        return self._codes[rows]

    def cheap(self, rows: Rows) -> Array:
        """[m, names of the encoding] what is known without evaluating."""
        return self._cheap[rows]

    def broken(self, rows: Rows) -> Array:
        """[m] by how much they break the constraints on what is known without evaluating; 0: not at all."""
        return self._broken[rows]

    def features(self, rows: Rows) -> Features:
        """What surrogates see of them."""
        return self.encoding.of(self._codes[rows], self._cheap[rows])


def _roomy(rows: NDArray[T], count: int) -> NDArray[T]:
    """The rows, with room for `count`; twice as many as before where there was none."""
    if count <= len(rows):
        return rows
    room = np.zeros((max(count, 2 * len(rows)), *rows.shape[1:]), dtype=rows.dtype)
    room[: len(rows)] = rows
    return room
