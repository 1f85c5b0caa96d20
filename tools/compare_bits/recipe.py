"""What a recipe is: a network, its training, and the random samples that it trains on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fastnn as fnn

INPUTS, WIDTH, NARROWER, OUTPUTS = 61, 67, 45, 5
# Samples for validation and for prediction. Two threads share a prediction of that many samples.
VALIDATED, PREDICTED = 40, 360


@dataclass(frozen=True)
class Data:
    """Samples for training, validation and prediction.

    Attributes
    ----------
    X : array or nested list of shape (samples, inputs)
    y : ndarray of shape (samples,) or (samples, outputs)
    weights : ndarray of shape (samples,)
        A weight for each training sample.
    validation : tuple of ndarray
        Further features and targets.
    X_new : ndarray of shape (PREDICTED, inputs)
        Features for prediction, in the dtype of the network.
    """

    X: Any
    y: np.ndarray
    weights: np.ndarray
    validation: tuple[np.ndarray, np.ndarray]
    X_new: np.ndarray


def no_options(data: Data) -> dict[str, Any]:
    """No further arguments of ``fit``."""
    return {}


def sample_weights(data: Data) -> dict[str, Any]:
    """The argument ``sample_weight`` of ``fit``."""
    return {"sample_weight": data.weights}


def contiguous(X: np.ndarray, dtype: str) -> np.ndarray:
    """X as a C-contiguous array of a dtype."""
    return np.ascontiguousarray(X, dtype)


@dataclass(frozen=True)
class Recipe:
    """A network and its training.

    Attributes
    ----------
    layers : sequence of Layer
    loss : str or Loss
    targets : str
        A kind of `random_targets`.
    optimizer : Optimizer or str
    inputs, samples, batch_size, epochs, seed : int
    options : callable
        Returns further arguments of ``fit`` for some `Data`.
    second_optimizer : Optimizer, optional
        The optimiser of a second call of ``fit``; None for no second call.
    convert : callable
        Makes X from float64 features and the network's dtype, as ``fit`` receives it.
    """

    layers: Sequence[Any]
    loss: Any = "softmax_cross_entropy"
    targets: str = "labels"
    optimizer: Any = field(default_factory=lambda: fnn.Adam(0.01))
    inputs: int = INPUTS
    samples: int = 150
    batch_size: int = 64
    epochs: int = 2
    seed: int = 11
    options: Callable[[Data], dict[str, Any]] = no_options
    second_optimizer: Any = None
    convert: Callable[[np.ndarray, str], Any] = contiguous

    def network(self, engine: str, dtype: str) -> Any:
        """The untrained network on an engine."""
        return fnn.Network(self.layers, self.inputs, self.loss, dtype, engine, self.seed)

    def fit(self, net: Any, data: Data, optimizer: Any, epochs: int) -> Any:
        """Train a network by this recipe and return the history."""
        settings = {"batch_size": self.batch_size, "optimizer": optimizer, "progress": False}
        return net.fit(data.X, data.y, epochs, **settings, **self.options(data))


def stack(activation: Any = "tanh", outputs: int = OUTPUTS, **dense: Any) -> list[Any]:
    """Two hidden layers and an output layer."""
    hidden = [fnn.Dense(width, activation, **dense) for width in (WIDTH, NARROWER)]
    return [*hidden, fnn.Dense(outputs, **dense)]


def every_layer() -> list[Any]:
    """A network that holds each kind of layer."""
    inner = [
        fnn.LayerNorm(),
        fnn.Dense(NARROWER, "gelu", l1=0.001),
        fnn.GaussianNoise(0.1),
        fnn.Dense(WIDTH),
    ]
    return [
        fnn.Dense(WIDTH, bias=False, l2=0.01),
        fnn.BatchNorm(),
        fnn.Activation("tanh"),
        fnn.Dropout(0.2),
        fnn.Residual(inner, activation="softplus"),
        fnn.Residual([fnn.Dense(NARROWER, "silu")], activation="elu"),
        fnn.Dense(OUTPUTS),
    ]


def random_targets(kind: str, samples: int, outputs: int) -> np.ndarray:
    """Random targets of a kind, of shape (samples,) or (samples, outputs)."""
    rng, shape = np.random.default_rng(2), (samples, outputs)
    draws: dict[str, Callable[[], np.ndarray]] = {
        "labels": lambda: rng.integers(outputs, size=samples),
        "one-hot": lambda: np.eye(outputs)[rng.integers(outputs, size=samples)],
        "probabilities": lambda: rng.dirichlet(np.ones(outputs), samples),
        "bits": lambda: rng.integers(0, 2, shape).astype(float),
        "between 0 and 1": lambda: rng.uniform(size=shape),
        "counts": lambda: rng.poisson(2.0, shape).astype(float),
        "values": lambda: rng.normal(size=shape),
        "one value": lambda: rng.normal(size=samples),
        "one bit": lambda: rng.integers(0, 2, samples),
        "one count": lambda: rng.poisson(2.0, samples),
    }
    return draws[kind]()


def random_data(recipe: Recipe, net: Any) -> Data:
    """Random samples for the network of a recipe."""
    n, total = recipe.samples, recipe.samples + VALIDATED
    rng, dtype = np.random.default_rng(1), str(net.dtype)
    outputs = net.forward(np.zeros((1, recipe.inputs))).shape[1]
    X = rng.normal(size=(total, recipe.inputs))
    y = random_targets(recipe.targets, total, outputs)
    weights = rng.integers(0, 4, n) + (np.arange(n) == 0) * 1.0  # the sum is never 0
    X_new = rng.normal(size=(PREDICTED, recipe.inputs)).astype(dtype)
    return Data(recipe.convert(X[:n], dtype), y[:n], weights, (X[n:], y[n:]), X_new)
