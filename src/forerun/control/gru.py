"""A student's net without torch: some ten microseconds a step, for a loop that has a millisecond.

All buffers are made once; nothing is allocated per step that the garbage collector would have to follow.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


class NumpyStudent:
    """The same numbers as `forerun.control.student.Student`, one step at a time, for one robot.

    Args:
        weights: the student's state dictionary as float32 arrays.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        take = {k: np.ascontiguousarray(v, np.float32) for k, v in weights.items()}
        self.mean, self.scale = take["mean"], take["scale"]
        self.from_input, self.input_bias = take["gru.weight_ih_l0"], take["gru.bias_ih_l0"]
        self.from_hidden, self.hidden_bias = take["gru.weight_hh_l0"], take["gru.bias_hh_l0"]
        self.out, self.out_bias = take["out.weight"], take["out.bias"]
        width = self.from_hidden.shape[1]
        self.width = width
        self._gates, self._inner = np.empty(3 * width, np.float32), np.empty(3 * width, np.float32)
        self.hidden = np.zeros(width, np.float32)

    def reset(self) -> None:
        """Forget the past."""
        self.hidden[:] = 0

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Features (F,) float32 of this step to turns (K,)."""
        seen = np.minimum(np.maximum((features - self.mean) / self.scale, -8), 8)
        np.dot(self.from_input, seen, out=self._gates)
        self._gates += self.input_bias
        np.dot(self.from_hidden, self.hidden, out=self._inner)
        self._inner += self.hidden_bias
        w, gates, inner = self.width, self._gates, self._inner
        reset_update = 1 / (1 + np.exp(-(gates[: 2 * w] + inner[: 2 * w])))
        new = np.tanh(gates[2 * w :] + reset_update[:w] * inner[2 * w :])
        self.hidden += (1 - reset_update[w:]) * (new - self.hidden)
        return self.out @ self.hidden + self.out_bias
