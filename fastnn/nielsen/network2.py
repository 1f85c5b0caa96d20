"""The book's ``network2``: sigmoid networks, two costs, L2 regularisation and monitoring, on the
compiled engine.

Names, arguments, returned lists, printed lines and files are the book's (chapter 3). Vectors are
columns and weights are (out, in), so that a layer's output is σ(w a + b). What goes through data,
`Network.SGD`, `accuracy` and `total_cost`, is done by a `fastnn.Network`, which is handed the
weights and gives them back; a whole call of ``SGD`` is one call of its ``fit``. What is asked for
one sample or one mini-batch is NumPy's, in float64 as in the book: an engine would win nothing
there.
"""

import json
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit, xlog1py, xlogy

from fastnn._utils import checks
from fastnn._utils.files import write_atomically
from fastnn.data import validation
from fastnn.errors import ModelFileError
from fastnn.network import mlp
from fastnn.nielsen.mnist_loader import ImagePairs, vectorized_result
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
Columns = list[np.ndarray]


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
        return 0.5 * np.linalg.norm(a - y) ** 2

    @staticmethod
    def delta(z: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The error of the output layer: ∂C/∂z = (a − y) σ′(z)."""
        return (a - y) * sigmoid_prime(z)


class CrossEntropyCost:
    """C = −Σⱼ yⱼ ln aⱼ + (1 − yⱼ) ln(1 − aⱼ) of a sample."""

    @staticmethod
    def fn(a: np.ndarray, y: np.ndarray) -> float:
        """The cost of the output ``a`` where ``y`` is wanted; 0 ln 0 counts as 0."""
        return -np.sum(xlogy(y, a) + xlog1py(1 - y, -a))

    @staticmethod
    def delta(z: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The error of the output layer: ∂C/∂z = a − y."""
        return a - y


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

    def __init__(
        self,
        sizes: Sequence[int],
        cost: type = CrossEntropyCost,
        *,
        seed: int | None = None,
        dtype: str = "float32",
        backend: str = "auto",
    ):
        self.sizes = [checks.integer("sizes", size) for size in sizes]
        self.num_layers = len(self.sizes)
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
                f"cost must be {' or '.join(_COSTS)}, not {cost!r}; fastnn.Network offers other losses"
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
        """Draw weights from N(0, 1/n_in), n_in being the number of a neuron's inputs, and biases
        from N(0, 1).
        """
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
        """Train by mini-batch stochastic gradient descent, and print what is monitored after each
        epoch.

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
        monitor = _Monitor(data, monitored, lmbda, early_stopping_n)
        if epochs:
            rule = optimizers.SGD(eta, weight_decay=lmbda / len(data["training"][0]))
            self._train(data["training"], epochs, mini_batch_size, rule, [monitor])
        return tuple(
            monitor.figures[of, what]
            for of in ("evaluation", "training")
            for what in ("cost", "accuracy")
        )

    def _train(self, arrays, epochs, batch_size, rule, callbacks):
        try:
            self._handed_over().fit(
                *arrays, epochs, batch_size, rule, callbacks=callbacks, progress=False
            )
        finally:
            self.weights, self.biases = (
                [np.array(a, np.float64, order="C") for a in part]
                for part in _as_columns(self._net.parameters)
            )

    def update_mini_batch(self, mini_batch: Pairs, eta: float, lmbda: float, n: int) -> None:
        """Take one step of `SGD` on the samples of ``mini_batch``, where the training data are
        ``n`` samples.
        """
        eta, lmbda, n = (
            checks.number("eta", eta),
            checks.number("lmbda", lmbda),
            checks.integer("n", n),
        )
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
        """The output (n_out, 1) for the input ``a`` (n_in, 1); with samples in further columns,
        theirs.
        """
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
            In the book, whether the y are vectors; here that is seen from the data, and the flag
            has no effect.
        """
        return _accuracy(self._handed_over(), *self._arrays("data", data))

    def total_cost(self, data: Pairs, lmbda: float, convert: bool = False) -> float:
        """The mean cost of ``data``, plus λ/(2n) Σw² with n the number of its samples.

        Parameters
        ----------
        data : iterable of (x, y)
            As in `SGD`.
        lmbda : float
            λ.
        convert : bool
            In the book, whether the y are digits; here that is seen from the data, and the flag has
            no effect.
        """
        return _total_cost(
            self._handed_over(), *self._arrays("data", data), checks.number("lmbda", lmbda)
        )

    def save(self, filename: str | os.PathLike) -> None:
        """Write the network to a JSON file, whole or not at all; the book's code reads it too."""
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

    def _handed_over(self):
        """The engine's network, with these weights and biases."""
        for name, ours, theirs in zip(
            ("weights", "biases"),
            (self.weights, self.biases),
            _as_columns(self._net.parameters),
            strict=True,
        ):
            if len(ours) != len(theirs):
                raise ValueError(
                    f"{name} must be a list of {len(theirs)} arrays, one per layer but the input; got {len(ours)}"
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

    def _arrays(self, name, data, dtype=None):
        """Pairs as arrays X (n, n_in) and Y (n, n_out), where numbers have become unit vectors;
        without a dtype, in the engine's.
        """
        net, dtype = self._net, dtype or self._net.dtype
        try:
            x, y = (data.arrays() if isinstance(data, ImagePairs) else None) or _put_together(data)
            X = validation.as_features(x.reshape(len(x), -1), dtype, net.inputs, "x", finite=False)
            targets = y if y.ndim == 1 else y.reshape(len(y), -1)
            return X, validation.as_targets(
                targets, len(x), net.outputs, net.loss.name, dtype
            ).values
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name} must be pairs (x, y) of column vectors: {error}") from error


def load(filename: str | os.PathLike) -> Network:
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
        net = Network(data["sizes"], _COSTS[data["cost"]])
        net.weights, net.biases = (
            [np.array(array, np.float64) for array in data[name]] for name in ("weights", "biases")
        )
        net._handed_over()  # for its checks
    except (KeyError, TypeError, ValueError, MemoryError, RecursionError) as error:
        raise ModelFileError(f"{filename} is no file of network2: {error!r}") from error
    return net


class _Monitor:
    """A callback: what `Network.SGD` measures and prints after each epoch, and whether it is time
    to stop.
    """

    def __init__(self, data, monitored, lmbda, early_stopping_n):
        self.figures = {key: [] for key in monitored}
        self._data, self._lmbda, self._patience = (
            data,
            lmbda,
            checks.integer("early_stopping_n", early_stopping_n, least=0),
        )
        self._monitored = [key for key, wanted in monitored.items() if wanted]
        if "evaluation" not in data and any(of == "evaluation" for of, _ in self._monitored):
            raise ValueError(
                "monitor_evaluation_cost and monitor_evaluation_accuracy need evaluation_data"
            )
        watched = [key for key in self._monitored if key[1] == "accuracy"]
        if self._patience and not watched:
            raise ValueError(
                "early_stopping_n needs monitor_evaluation_accuracy=True or monitor_training_accuracy=True"
            )
        self._watched = self.figures[watched[-1]] if watched else []

    def on_epoch_end(self, training):
        print(f"Epoch {training.epoch - 1} training complete")
        for of, what in self._monitored:
            X, Y = self._data[of]
            figure = (
                _total_cost(training.net, X, Y, self._lmbda)
                if what == "cost"
                else _accuracy(training.net, X, Y)
            )
            self.figures[of, what].append(figure)
            print(
                f"{what.capitalize()} on {of} data: {figure}"
                + ("" if what == "cost" else f" / {len(X)}")
            )
        print()
        if (
            self._patience
            and len(self._watched) - 1 - int(np.argmax(self._watched)) >= self._patience
        ):
            training.stop(f"accuracy has not risen for {self._patience} epochs")


def _accuracy(net, X, Y) -> int:
    return int(np.count_nonzero(net.predict(X).argmax(axis=1) == Y.argmax(axis=1)))


def _total_cost(net, X, Y, lmbda) -> float:
    weights, _ = _as_columns(net.parameters)
    squares = sum(float(np.square(w, dtype=np.float64).sum()) for w in weights)
    return net.evaluate(X, Y, metrics=())["loss"] + 0.5 * lmbda / len(X) * squares


def _put_together(data) -> tuple[np.ndarray, np.ndarray]:
    pairs = list(data)
    if not pairs:
        raise ValueError("there are none; an iterator can be read only once: make it a list")
    x, y = zip(*pairs, strict=True)
    return validation.as_numbers(x, "x"), validation.as_numbers(y, "y")


def _as_columns(arrays: Mapping[str, np.ndarray]) -> tuple[Columns, Columns]:
    """Weights and biases, or gradients by them, as views of the book's shapes; by name they take
    turns, layer by layer.
    """
    columns = [np.atleast_2d(array).T for array in arrays.values()]
    return columns[0::2], columns[1::2]
