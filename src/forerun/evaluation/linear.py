"""Ridge and logistic regression: what every network is held against."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy


class Linear(NamedTuple):
    """An affine map of inputs that it standardises itself."""

    mean: np.ndarray
    spread: np.ndarray
    weight: np.ndarray
    """(F, K)."""
    bias: np.ndarray
    """(K,)."""

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """(N, K): predictions, or logits."""
        return (inputs - self.mean) / self.spread @ self.weight + self.bias


def scales(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread (F,) of the rows; a column that never varies has spread 1."""
    spread = inputs.std(axis=0, dtype=np.float64)
    return inputs.mean(axis=0, dtype=np.float64), np.where(spread < 1e-6, 1.0, spread)


def ridge(inputs: np.ndarray, targets: np.ndarray, penalty: float) -> Linear:
    """Least mean squares plus ``penalty`` times the squared weights of standardised inputs; free offset."""
    mean, spread = scales(inputs)
    x, bias = (inputs - mean) / spread, targets.mean(axis=0, dtype=np.float64)
    gram = x.T @ x / len(x) + penalty * np.eye(x.shape[1])
    return Linear(mean, spread, np.linalg.solve(gram, x.T @ (targets - bias) / len(x)), bias)


def logistic(inputs: np.ndarray, labels: np.ndarray, num_classes: int, penalty: float) -> Linear:
    """Multinomial logistic regression with ``penalty`` on the squared weights, by L-BFGS from zero."""
    mean, spread = scales(inputs)
    x, y = torch.from_numpy((inputs - mean) / spread), torch.from_numpy(labels)
    weight = torch.zeros(x.shape[1], num_classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=150, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(x @ weight + bias, y) + penalty * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    return Linear(mean, spread, weight.detach().numpy(), bias.detach().numpy())
