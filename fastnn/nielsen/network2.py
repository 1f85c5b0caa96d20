"""The book's ``network2`` on the compiled engine.

It has sigmoid networks, two costs, L2 regularisation and monitoring. Names, arguments, returned
lists, printed lines and files are the book's (chapter 3). Vectors are columns and weights are
(out, in), so that a layer's output is σ(w a + b). `Network.SGD`, `Network.accuracy` and
`Network.total_cost`, which go through data, copy the weights to a `fastnn.Network`; ``SGD`` is one
call of its ``fit``, and copies them back. What concerns one sample or one mini-batch is NumPy's, in
float64 as in the book.
"""

import json
import os
import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastnn._utils import checks
from fastnn._utils.files import check_writable, write_atomically
from fastnn.data import validation
from fastnn.data.targets import as_targets
from fastnn.errors import ModelFileError
from fastnn.models import mlp
from fastnn.network import Network as EngineNetwork
from fastnn.nielsen.costs import CrossEntropyCost, QuadraticCost, sigmoid, sigmoid_prime
from fastnn.nielsen.mnist_loader import ImagePairs, vectorized_result
from fastnn.nielsen.monitor import Columns, Monitor, accuracy, as_columns, total_cost
from fastnn.optim import optimizers

__all__ = [
    "CrossEntropyCost",
    "Network",
    "QuadraticCost",
    "load",
    "sigmoid",
    "sigmoid_prime",
    "vectorized_result",
]

Pairs = Iterable[tuple[np.ndarray, Any]]


_LOSSES = {QuadraticCost: "quadratic", CrossEntropyCost: "binary_cross_entropy"}
_COSTS = {cost.__name__: cost for cost in _LOSSES}


class Network:
    """A network of sigmoid neurons.

    Parameters
    ----------
    sizes : sequence of int
        Neurons per layer, input first.
    cost : QuadraticCost or CrossEntropyCost
        The two that the engine knows; `fastnn.Network` offers more.
    seed : int, optional
        Initial weights and biases are the numbers that the book's code draws after
        ``numpy.random.seed(seed)``; the order of samples in `SGD` follows from the seed too, by
        `fastnn`'s own generator. Without a seed both are another every time, as in the book:
        weights come from the global generator ``numpy.random``, and the seed of the order from
        ``random``.
    dtype : {"float32", "float64"}
        Of the engine's arithmetic. The book's is float64, which takes about one and a half times as
        long.
    backend : str
        The engine, as in `fastnn.Network`.

    Attributes
    ----------
    weights, biases : list of ndarray
        float64, of shapes (out, in) and (out, 1), one each per layer but the input. Read, change or
        assign them; training replaces them by new ones.
    sizes : list of int
    num_layers : int
        The input included.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.

    Examples
    --------
    >>> net = Network([2, 3, 1], cost=QuadraticCost, seed=0, backend="numpy")
    >>> [w.shape for w in net.weights], [b.shape for b in net.biases]
    ([(3, 2), (1, 3)], [(3, 1), (1, 1)])
    >>> net.feedforward(np.array([[0.0], [1.0]])).shape
    (1, 1)
    """

    weights: Columns
    biases: Columns

    def __init__(
        self,
        sizes: Sequence[int],
        cost: type = CrossEntropyCost,
        *,
        seed: int | None = None,
        dtype: str = "float32",
        backend: str = "auto",
    ):
        self.sizes: list[int] = [checks.integer("sizes", size) for size in sizes]
        self.num_layers: int = len(self.sizes)
        self._seed = None if seed is None else checks.integer("seed", seed, least=0)
        self._options = {
            "dtype": dtype,
            "backend": backend,
            "seed": random.getrandbits(32) if seed is None else seed,
        }
        self.cost = cost
        self.default_weight_initializer()

    @property
    def cost(self) -> type:
        """What training minimises; may be assigned."""
        return self._cost

    @cost.setter
    def cost(self, cost: type) -> None:
        if cost not in _LOSSES:
            raise ValueError(
                f"cost must be {' or '.join(_COSTS)}, not {cost!r}; "
                "fastnn.Network offers other losses"
            )
        self._cost = cost
        self._net = mlp(
            self.sizes,
            activation="sigmoid",
            output="sigmoid",
            init="zeros",
            loss=_LOSSES[cost],
            **self._options,
        )

    def default_weight_initializer(self) -> None:
        """Draw weights from N(0, 1/n_in), for n_in inputs of a neuron, and biases from N(0, 1)."""
        self.large_weight_initializer()
        self.weights = [w / np.sqrt(w.shape[1]) for w in self.weights]

    def large_weight_initializer(self) -> None:
        """Draw weights and biases from N(0, 1), with which many neurons start saturated."""
        # the book's generator, and its order of draws
        generator = np.random if self._seed is None else np.random.RandomState(self._seed)
        self.biases = [generator.standard_normal((n_out, 1)) for n_out in self.sizes[1:]]
        self.weights = [
            generator.standard_normal((n_out, n_in))
            for n_in, n_out in zip(self.sizes[:-1], self.sizes[1:], strict=True)
        ]

    # --- training ---------------------------------------------------------------------------------

    # Parameters: the book's own signature.
    def SGD(
        self,
        training_data: Pairs,
        epochs: int,
        mini_batch_size: int,
        eta: float,
        lmbda: float = 0.0,
        evaluation_data: Pairs | None = None,
        monitor_evaluation_cost: bool = False,
        monitor_evaluation_accuracy: bool = False,
        monitor_training_cost: bool = False,
        monitor_training_accuracy: bool = False,
        early_stopping_n: int = 0,
    ) -> tuple[list[float], list[int], list[float], list[int]]:
        """Train by mini-batch stochastic gradient descent.

        After each epoch it prints what is monitored.

        A step on m of the n training samples is w ← (1 − ηλ/n) w − (η/m) Σ ∂Cₓ/∂w, b ← b − (η/m) Σ
        ∂Cₓ/∂b. Ctrl-C ends training after about 0.2 s and keeps what was learnt.

        Parameters
        ----------
        training_data, evaluation_data : iterable of (x, y)
            x: (n_in, 1). y: (n_out, 1), or the number of the output that should be the largest. An
            iterator is read to its end.
        epochs : int
            Passes over the training data, each in a new order.
        mini_batch_size : int
            A last, shorter mini-batch counts.
        eta : float
            Learning rate η.
        lmbda : float
            λ of the penalty λ/(2n) Σw².
        monitor_evaluation_cost, monitor_evaluation_accuracy, monitor_training_cost,
        monitor_training_accuracy : bool
            What to measure and print. Costs include the penalty, with n the number of samples they
            are measured on.
        early_stopping_n : int
            Stop when the accuracy that is monitored (the evaluation data's, if both are) has not
            risen above its best for so many epochs. 0 means never.

        Returns
        -------
        evaluation_cost, evaluation_accuracy, training_cost, training_accuracy : list
            One entry per epoch; empty if not monitored. Accuracies are numbers of samples.

        Raises
        ------
        ValueError, TypeError
            Bad data or arguments, before anything is trained.
        DivergenceError
            As in `fastnn.Network.fit`; the network keeps its last finite weights.
        """
        monitored = {
            ("training", "cost"): monitor_training_cost,
            ("training", "accuracy"): monitor_training_accuracy,
            ("evaluation", "cost"): monitor_evaluation_cost,
            ("evaluation", "accuracy"): monitor_evaluation_accuracy,
        }
        epochs = checks.integer("epochs", epochs, least=0)
        mini_batch_size = checks.integer("mini_batch_size", mini_batch_size)
        eta, lmbda = checks.number("eta", eta), checks.number("lmbda", lmbda)
        data = {"training": self._arrays("training_data", training_data)}
        if evaluation_data is not None:
            data["evaluation"] = self._arrays("evaluation_data", evaluation_data)
        monitor = Monitor(data, monitored, lmbda, early_stopping_n)
        if epochs:
            optimizer = optimizers.SGD(eta, weight_decay=lmbda / len(data["training"][0]))
            self._train(data["training"], epochs, mini_batch_size, optimizer, monitor)
        figures = monitor.figures
        return (
            figures["evaluation", "cost"],
            figures["evaluation", "accuracy"],
            figures["training", "cost"],
            figures["training", "accuracy"],
        )

    def _train(
        self,
        samples: tuple[np.ndarray, np.ndarray],
        epochs: int,
        batch_size: int,
        optimizer: optimizers.SGD,
        monitor: Monitor,
    ) -> None:
        X, Y = samples
        try:
            self._engine_network().fit(
                X, Y, epochs, batch_size, optimizer, callbacks=[monitor], progress=False
            )
        finally:
            self.weights, self.biases = (
                [np.array(a, np.float64, order="C") for a in part]
                for part in as_columns(self._net.parameters)
            )

    def update_mini_batch(self, mini_batch: Pairs, eta: float, lmbda: float, n: int) -> None:
        """Take one step of `SGD` on ``mini_batch``, where the training data are ``n`` samples."""
        eta, lmbda = checks.number("eta", eta), checks.number("lmbda", lmbda)
        n = checks.integer("n", n)
        X, Y = self._arrays("mini_batch", mini_batch, np.float64)
        nabla_b, nabla_w = self.backprop(X.T, Y.T)
        self.weights = [
            (1 - eta * lmbda / n) * w - eta * nabla
            for w, nabla in zip(self.weights, nabla_w, strict=True)
        ]
        self.biases = [b - eta * nabla for b, nabla in zip(self.biases, nabla_b, strict=True)]

    def backprop(self, x: np.ndarray, y: np.ndarray) -> tuple[Columns, Columns]:
        """The gradient of a sample's cost.

        Parameters
        ----------
        x : ndarray (n_in, 1)
        y : ndarray (n_out, 1)
            With samples in further columns of both: the gradient of their mean cost.

        Returns
        -------
        nabla_b, nabla_w : list of ndarray
            ∂C/∂b and ∂C/∂w, shaped like ``biases`` and ``weights``.
        """
        zs, activations = [], [x]
        for w, b in zip(self.weights, self.biases, strict=True):
            zs.append(np.dot(w, activations[-1]) + b)
            activations.append(sigmoid(zs[-1]))
        delta = self.cost.delta(zs[-1], activations[-1], y) / np.shape(x)[1]
        nabla_b, nabla_w = [], []
        for layer in reversed(range(len(zs))):
            nabla_b.insert(0, delta.sum(axis=1, keepdims=True))
            nabla_w.insert(0, np.dot(delta, activations[layer].T))
            if layer:
                delta = np.dot(self.weights[layer].T, delta) * sigmoid_prime(zs[layer - 1])
        return nabla_b, nabla_w

    # --- using it ---------------------------------------------------------------------------------

    def feedforward(self, a: np.ndarray) -> np.ndarray:
        """The output (n_out, 1) for the input ``a`` (n_in, 1), or for samples in columns."""
        for w, b in zip(self.weights, self.biases, strict=True):
            a = sigmoid(np.dot(w, a) + b)
        return a

    def accuracy(self, data: Pairs, convert: bool = False) -> int:
        """The number of samples whose largest output is the one that should be.

        Parameters
        ----------
        data : iterable of (x, y)
            As in `SGD`.
        convert : bool
            In the book, whether the y are vectors. Without effect: the data show that.
        """
        return accuracy(self._engine_network(), *self._arrays("data", data))

    def total_cost(self, data: Pairs, lmbda: float, convert: bool = False) -> float:
        """The mean cost of ``data``, plus λ/(2n) Σw² with n the number of its samples.

        Parameters
        ----------
        data : iterable of (x, y)
            As in `SGD`.
        lmbda : float
            λ.
        convert : bool
            In the book, whether the y are digits. Without effect: the data show that.
        """
        return total_cost(
            self._engine_network(), *self._arrays("data", data), checks.number("lmbda", lmbda)
        )

    def save(self, filename: str | os.PathLike[str]) -> None:
        """Write the network to a JSON file, whole or not at all; the book's code reads it too.

        Raises
        ------
        ValueError
            Weights or biases that are not finite, which JSON cannot hold.
        OSError
            No space, no permission, no such folder; an older file is then intact.
        """
        check_writable(filename)
        self._engine_network()  # It checks shapes and values, so that `load` will take them.
        weights, biases = (
            [np.asarray(array).tolist() for array in part] for part in (self.weights, self.biases)
        )
        data = {
            "sizes": self.sizes,
            "weights": weights,
            "biases": biases,
            "cost": self.cost.__name__,
        }
        write_atomically(filename, json.dumps(data).encode())

    # --- between the book's shapes and the engine's -----------------------------------------------

    def _engine_network(self) -> EngineNetwork:
        """The engine's network, with a copy of these weights and biases."""
        for name, ours, theirs in zip(
            ("weights", "biases"),
            (self.weights, self.biases),
            as_columns(self._net.parameters),
            strict=True,
        ):
            if len(ours) != len(theirs):
                raise ValueError(
                    f"{name} must be a list of {len(theirs)} arrays, one per layer but the input; "
                    f"got {len(ours)}"
                )
            for layer, (array, view) in enumerate(zip(ours, theirs, strict=True)):
                if np.shape(array) != view.shape:
                    raise ValueError(
                        f"{name}[{layer}] must have the shape {view.shape}, not {np.shape(array)}"
                    )
                if not np.isfinite(array).all():
                    raise ValueError(f"{name}[{layer}] must be finite, but holds NaN or infinity")
                view[...] = array
        return self._net

    def _arrays(
        self, name: str, data: Pairs, dtype: DTypeLike | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pairs as arrays X (n, n_in) and Y (n, n_out), in the engine's dtype by default.

        Targets that are numbers become unit vectors.
        """
        net, dtype = self._net, dtype or self._net.dtype
        try:
            x, y = (data.arrays() if isinstance(data, ImagePairs) else None) or _as_arrays(data)
            X = validation.as_features(x.reshape(len(x), -1), dtype, net.inputs, "x", finite=False)
            targets = y if y.ndim == 1 else y.reshape(len(y), -1)
            checked = as_targets(targets, len(x), net.outputs, net.loss.name, dtype)
            return np.asarray(X), np.asarray(checked.values)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name} must be pairs (x, y) of column vectors: {error}") from error


def load(filename: str | os.PathLike[str]) -> Network:
    """Read a network that `Network.save`, or the book's code, wrote.

    Raises
    ------
    ModelFileError
        The file holds something else.
    OSError
        It cannot be read.
    """
    with open(filename, "rb") as file:
        text = file.read()
    try:
        data = json.loads(text)
        weights, biases = (
            [np.array(array, np.float64) for array in data[name]] for name in ("weights", "biases")
        )
        # Before a network of those sizes takes memory.
        found = [weights[0].shape[-1], *(len(array) for array in biases)]
        if found != data["sizes"]:
            raise ValueError(f"sizes are {data['sizes']}, but the weights are of {found}")
        net = Network(found, _COSTS[data["cost"]])
        net.weights, net.biases = weights, biases
        net._engine_network()  # It checks shapes and values.
    except (
        LookupError,
        TypeError,
        ValueError,
        OverflowError,
        MemoryError,
        RecursionError,
    ) as error:
        raise ModelFileError(f"{filename} is no file of network2: {error!r}") from error
    return net


def _as_arrays(data) -> tuple[np.ndarray, np.ndarray]:
    pairs = list(data)
    if not pairs:
        raise ValueError("there are none; an iterator can be read only once: make it a list")
    x, y = zip(*pairs, strict=True)
    return validation.as_numbers(x, "x"), validation.as_numbers(y, "y")
