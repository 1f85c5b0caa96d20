"""The sigmoid and the two costs of the book, for one sample or a mini-batch in columns."""

from typing import Any

import numpy as np
from scipy.special import expit, xlog1py, xlogy


def sigmoid(z: Any) -> Any:
    """σ(z) = 1/(1 + e⁻ᶻ), without overflow."""
    return expit(z)


def sigmoid_prime(z: Any) -> Any:
    """σ′(z) = σ(z)(1 − σ(z)), at most ¼."""
    return sigmoid(z) * (1 - sigmoid(z))


class QuadraticCost:
    """C = ½‖a − y‖² of a sample."""

    @staticmethod
    def fn(a: np.ndarray, y: np.ndarray) -> float:
        """The cost of the output ``a`` where ``y`` is wanted."""
        return float(0.5 * np.linalg.norm(a - y) ** 2)

    @staticmethod
    def delta(z: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The error of the output layer: ∂C/∂z = (a − y) σ′(z)."""
        return (a - y) * sigmoid_prime(z)


class CrossEntropyCost:
    """C = −Σⱼ yⱼ ln aⱼ + (1 − yⱼ) ln(1 − aⱼ) of a sample."""

    @staticmethod
    def fn(a: np.ndarray, y: np.ndarray) -> float:
        """The cost of the output ``a`` where ``y`` is wanted; 0 ln 0 counts as 0."""
        return float(-np.sum(xlogy(y, a) + xlog1py(1 - y, -a)))

    @staticmethod
    def delta(z: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The error of the output layer: ∂C/∂z = a − y."""
        return a - y
