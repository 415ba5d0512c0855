"""A student's net without torch: some ten microseconds a step, for a loop that has a millisecond.

At this size a step costs what its calls cost, not its products: one matrix gives all gates at once, of input
and past. All buffers are made once; nothing is allocated that the garbage collector would have to follow.
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
        self.mean, self.per_scale = take["mean"], 1 / take["scale"]
        self.out, self.out_bias = take["out.weight"], take["out.bias"]
        width, features = take["gru.weight_hh_l0"].shape[1], len(self.mean)
        self.gates, self.bias = _gates(take, width, features)
        self._both = np.zeros(features + width, np.float32)
        self._seen, self.hidden = self._both[:features], self._both[features:]
        self._all = np.empty(4 * width, np.float32)
        self._open = self._all[: 2 * width]
        self._reset, self._update = self._open[:width], self._open[width:]
        self._new, self._past = self._all[2 * width : 3 * width], self._all[3 * width :]

    def reset(self) -> None:
        """Forget the past."""
        self.hidden[:] = 0

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Features (F,) float32 of this step to turns (K,)."""
        seen, all_, open_, new, past = self._seen, self._all, self._open, self._new, self._past
        np.subtract(features, self.mean, out=seen)
        seen *= self.per_scale
        np.maximum(seen, -8, out=seen)
        np.minimum(seen, 8, out=seen)
        np.dot(self.gates, self._both, out=all_)
        all_ += self.bias
        np.tanh(open_, out=open_)
        open_ += 1  # twice the sigmoid, since its weights are halved
        past *= self._reset
        new += past
        np.tanh(new, out=new)
        hidden = self.hidden
        # h += (1 - update) (new - h), with update = open / 2
        new -= hidden
        self._update *= -0.5
        self._update += 1
        new *= self._update
        hidden += new
        return self.out @ hidden + self.out_bias


def _gates(take: Mapping[str, np.ndarray], width: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """One matrix (4 W, F + W) and bias (4 W,): reset, update, new from the input, new from the past.

    The first two are halved, for a sigmoid is a hyperbolic tangent of half its argument; the last is halved
    because it is multiplied by twice the reset gate.
    """
    from_input, from_hidden = take["gru.weight_ih_l0"], take["gru.weight_hh_l0"]
    input_bias, hidden_bias = take["gru.bias_ih_l0"], take["gru.bias_hh_l0"]
    gates, bias = np.zeros((4 * width, features + width), np.float32), np.empty(4 * width, np.float32)
    two = 2 * width
    gates[:two] = np.hstack([from_input[:two], from_hidden[:two]]) / 2
    gates[two : 3 * width, :features] = from_input[two:]
    gates[3 * width :, features:] = from_hidden[two:] / 2
    bias[:two] = (input_bias[:two] + hidden_bias[:two]) / 2
    bias[two:] = np.concatenate([input_bias[two:], hidden_bias[two:] / 2])
    return gates, bias
