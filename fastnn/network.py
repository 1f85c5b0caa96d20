"""`Network`: describe, fit, predict, evaluate, save."""

import copy
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import engines, serialization
from fastnn._kernels.contract import Engine, Program, Samples, State
from fastnn._utils import checks
from fastnn.data.validation import as_features, check_codes, on_host
from fastnn.diagnostics.diagnosis import examine
from fastnn.diagnostics.findings import Diagnosis
from fastnn.diagnostics.layer_outputs import layer_outputs
from fastnn.diagnostics.learning_speed import learning_speed
from fastnn.metrics import metric_names, score
from fastnn.nn.description import Description, as_dtype
from fastnn.nn.layers import Layer
from fastnn.nn.losses import Loss
from fastnn.nn.parameter_views import Arrays
from fastnn.nn.penalties import penalty
from fastnn.optim.optimizers import LBFGS, OPTIMIZERS, Optimizer, as_optimizer
from fastnn.serialization import SavedModel
from fastnn.training.config import FitConfig
from fastnn.training.fit import train
from fastnn.training.history import History
from fastnn.training.samples import checked_features, checked_samples, training_data


class Network:
    """A feed-forward network: a description, its parameters, and the engine that trains it.

    Parameters
    ----------
    layers : list of Layer
        From input to output.
    inputs : int
        Features of a sample.
    loss : str or Loss
        What training minimises: the weighted mean of the per-sample losses Σ wᵢℓᵢ / Σ wᵢ, plus the
        layers' penalties ½λ₂Σw² and λ₁Σ|w|.
    dtype : {"float32", "float64"}
        Of parameters and arithmetic.
    backend : {"auto", "numpy", "numba", "cython", "cuda"}
        The engine; "cuda" is an NVIDIA GPU. "auto" takes the fastest CPU engine that runs here,
        and ``net.backend`` says which. A named engine that cannot run here is an error.
    seed : int
        From 0 to 2⁶⁴ − 1. Decides initial weights, shuffles, dropout masks and noise, the same on
        every engine.
    precision : {"float32", "tf32", "bf16"}
        What backend "cuda" rounds the factors of large matrix products to; all else stays float32.
        The other engines, and float64, take "float32" alone.

    Attributes
    ----------
    backend : str
        The engine in use.
    parameters, buffers : Arrays
        Name → view: ``"0.weight"`` (n_in, n_out), ``"0.bias"`` (n_out,), BatchNorm's and
        LayerNorm's ``"1.scale"`` and ``"1.shift"``; in a residual block ``"3.0.weight"`` and
        ``"3.projection.weight"``; buffers ``"1.running_mean"``, ``"1.running_var"``. While `fit`
        runs on backend "cuda", a view is out of date after the next step: ask for a new one.
    n_parameters : int
        Numbers that training learns.
    epochs : int
        Epochs of training so far.
    metadata : dict
        Plain data of the user's that is saved with the network.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, or the layer whose widths do not fit.
    RuntimeError
        A named engine that cannot run here.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> layers = [fnn.Dense(16, activation="relu"), fnn.Dense(2)]
    >>> net = fnn.Network(layers, inputs=4, loss="softmax_cross_entropy", backend="numpy")
    >>> history = net.fit(X, y, epochs=60, batch_size=20, optimizer=fnn.Adam(0.01))
    >>> net.evaluate(X, y)["accuracy"] > 0.9
    True
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        inputs: int,
        loss: str | Loss,
        dtype: Any = "float32",
        backend: str = "auto",
        seed: int = 0,
        precision: str = "float32",
    ):
        description = Description.checked(layers, inputs, loss, dtype, seed, precision)
        backend = engines.choose(backend)
        engines.check_precision(precision, backend, description.dtype)
        self._build(description, backend, description.initial_state())

    @classmethod
    def from_saved(cls, saved: SavedModel, backend: str, precision: str) -> "Network":
        """The network of a model file, on an engine that can run here; see `fastnn.load`."""
        net = cls.__new__(cls)
        net._build(saved.description.with_precision(precision), backend, saved.state)
        net.optimizer_kind, net.epochs, net.metadata = saved.optimizer, saved.epochs, saved.metadata
        return net

    def _build(self, description: Description, backend: str, state: State) -> None:
        """Set all attributes: what `__init__`, `from_saved` and `copy` share."""
        self._description = description
        self.layers: list[Layer] = description.layers
        self.inputs: int = description.inputs
        self.loss: Loss = description.loss
        self.dtype: np.dtype = description.dtype
        self.seed: int = description.seed
        self.program: Program = description.program
        self.backend: str = backend
        self.state: State = state
        self.takes_gpu_arrays: bool = backend == "cuda"
        self.optimizer_kind: str | None = None
        self.epochs: int = 0
        self.metadata: dict[str, Any] = {}
        self._engine: Engine | None = None

    # --- what it is -------------------------------------------------------------------------------

    @property
    def parameters(self) -> Arrays:
        return Arrays("parameter", self.program.parameters, self.state.theta)

    @property
    def buffers(self) -> Arrays:
        return Arrays("buffer", self.program.buffers, self.state.buffers)

    @property
    def n_parameters(self) -> int:
        return sum(array.size for array in self.program.parameters)

    @property
    def precision(self) -> str:
        """Of large matrix products on backend "cuda"."""
        return self.program.precision

    @property
    def outputs(self) -> int:
        """Width of the last layer, of one member where that is a `BatchEnsemble`."""
        return self.program.n_outputs

    @property
    def engine(self) -> Engine:
        """The engine, made at first use."""
        if self._engine is None:
            self._engine = engines.make_engine(self.backend, self.program)
        return self._engine

    def __repr__(self) -> str:
        layers = "\n".join(f"    {layer!r}," for layer in self.layers)
        options = (
            f"inputs={self.inputs}, loss={self.loss!r}, dtype={self.dtype.name!r}, "
            f"backend={self.backend!r}, seed={self.seed}"
        )
        if self.precision != "float32":
            options += f", precision={self.precision!r}"
        return f"Network([\n{layers}\n], {options})  # {self.n_parameters:,} parameters"

    # --- training ---------------------------------------------------------------------------------

    # Parameters: each is part of the public contract, and all but the data have defaults.
    def fit(
        self,
        X: Any,
        y: Any,
        epochs: int = 1,
        batch_size: int = 32,
        optimizer: str | Optimizer | LBFGS = "adam",
        validation: Any = None,
        shuffle: bool = True,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | str | None = None,
        callbacks: Sequence[Any] = (),
        metrics: Sequence[str] = ("accuracy",),
        progress: bool = True,
        drop_last: bool = False,
    ) -> History:
        """Train, going on from where an earlier call stopped.

        The optimiser's state lives in the network. It is kept while the kind of optimiser stays the
        same (new rates apply), and starts afresh when the kind changes: ``fit(5)`` twice equals
        ``fit(10)`` bit for bit. Ctrl-C ends training after the current chunk of mini-batches (about
        0.2 s) and keeps what was learnt; the epoch that it cuts short counts as one.

        Parameters
        ----------
        X : array-like (n, inputs)
            Any real dtype and memory order; not copied where it is C-contiguous and of the
            network's dtype. Backend "cuda" also takes arrays that are on the GPU (CuPy, PyTorch,
            Numba), and these must be so.
        y : array-like
            (n,) integer labels, (n, outputs) one-hot rows or probabilities, or values; what is
            accepted depends on the loss.
        epochs : int
            Passes over the data.
        batch_size : int
            Samples a step; larger than n means one batch. A last, shorter batch counts.
        optimizer : str, Optimizer or LBFGS
            A name stands for its default constants. LBFGS takes all data at once.
        validation : None, float, ndarray of int, (X, y) or (X, y, sample_weight)
            Data to score after each epoch; a fraction sets that share of the samples aside, chosen
            by the network's seed, and row numbers these samples.
        shuffle : bool
            A new order every epoch.
        sample_weight : array-like (n,), optional
            wᵢ ≥ 0; their ratios matter alone. The target of a sample of weight 0 may be anything.
        class_weight : mapping or "balanced", optional
            A factor on wᵢ per class, for integer labels; in training only, not in validation.
        callbacks : sequence
            See `fastnn.callbacks`.
        metrics : sequence of str
            Of the validation data; see `evaluate`.
        progress : bool
            Show a bar and a line per epoch, if standard error is a terminal.
        drop_last : bool
            Leave a last, shorter batch out of each epoch, unless it is the only one.

        Returns
        -------
        History
            Lists by name, one entry per epoch.

        Raises
        ------
        ValueError, TypeError
            Bad data or arguments, before anything is trained.
        DivergenceError
            A loss or parameter that is not finite; the network keeps its last finite parameters.
        """
        kind = as_optimizer(optimizer)
        options = shuffle, callbacks, metrics, progress, drop_last
        config = FitConfig(epochs, batch_size, kind, *options)
        data = training_data(self, X, y, sample_weight, class_weight, validation)
        return train(self, data, config)

    def use_optimizer(self, kind: str) -> None:
        """Keep the optimiser's state if it is of this kind (a class's name), else start afresh."""
        if kind != self.optimizer_kind:
            self.optimizer_kind = kind
            n_slots = OPTIMIZERS[kind.lower()].n_slots
            self.state.restart_optimizer(self.program.new_vectors(n_slots))

    def forget_optimizer(self) -> None:
        """Drop the optimiser's state; the next call of `fit` starts it afresh."""
        self.optimizer_kind = None
        self.state.restart_optimizer(self.program.new_vectors(0))

    # --- using it ---------------------------------------------------------------------------------

    def forward(self, X: Any) -> np.ndarray:
        """Raw outputs of the last layer: what the loss takes, such as logits.

        Parameters
        ----------
        X : array-like (n, inputs)

        Returns
        -------
        ndarray (n, outputs), or (n, members, outputs) of a `BatchEnsemble`
        """
        outputs, members = self._outputs(X, linked=False), self.program.members
        return outputs if members == 1 else outputs.reshape(len(outputs), members, self.outputs)

    def predict(self, X: Any) -> np.ndarray:
        """(n, outputs) with the link applied: probabilities or values, an ensemble's mean of them.

        Parameters
        ----------
        X : array-like (n, inputs)
        """
        return self._outputs(X, linked=True)

    def _outputs(self, X: Any, linked: bool) -> np.ndarray:
        # The engine says whether a number was not finite, so X is read once.
        features = as_features(X, self.dtype, self.inputs, "X", False, self.takes_gpu_arrays)
        check_codes(features, self.program.cardinalities)
        outputs, finite = self.engine.forward(self.state, features, linked)
        if not finite:
            as_features(on_host(X, "X"), self.dtype)  # raises the error that names the place
        return outputs

    def evaluate(
        self, X: Any, y: Any, sample_weight: Any = None, metrics: Sequence[str] = ("accuracy",)
    ) -> dict[str, float]:
        """Loss (penalties included) and metrics on data.

        Parameters
        ----------
        X, y, sample_weight
            As `fit` takes them.
        metrics : sequence of str
            Names of `fastnn.metrics`. On a regression loss accuracy means r2.

        Returns
        -------
        dict
            ``{"loss": …, "accuracy": …}`` or ``{"loss": …, "r2": …}``.
        """
        samples = checked_samples(self, X, y, sample_weight)
        return self.score(samples, metric_names(metrics, samples.classify))

    def score(self, samples: Samples, metrics: Sequence[str]) -> dict[str, float]:
        """`evaluate` for data that was checked before."""
        return score(self, samples, metrics)

    def gradients(
        self, X: Any, y: Any, training: bool = False, sample_weight: Any = None
    ) -> tuple[float, dict[str, np.ndarray]]:
        """The loss over all samples as one batch, and its gradient, penalties included.

        Parameters
        ----------
        X, y, sample_weight
            As `fit` takes them.
        training : bool
            Whether BatchNorm uses the batch's statistics, and dropout and noise act as in the next
            training step. Nothing is changed.

        Returns
        -------
        float, dict
            Loss, and ∂C/∂parameter by the names of ``parameters``.
        """
        samples = checked_samples(self, X, y, sample_weight)
        log, gradient = self.engine.gradients(self.state, samples, bool(training))
        gradients = {array.name: array.view(gradient) for array in self.program.parameters}
        return float(log.losses[0]) + self.penalty(), gradients

    def learning_speed(self, X: Any, y: Any) -> np.ndarray:
        """‖∂C/∂b^l‖₂ of each hidden Dense layer l, input side first (Nielsen, chapter 5).

        Parameters
        ----------
        X, y
            As `fit` takes them.

        Raises
        ------
        ValueError
            Where a hidden Dense layer has no bias.
        """
        return learning_speed(self.program, self.gradients(X, y)[1])

    def activations(self, X: Any) -> list[np.ndarray]:
        """Outputs of each layer but the last in inference mode, input side first.

        Parameters
        ----------
        X : array-like (n, inputs)

        Returns
        -------
        list of ndarray (n, units)
            One for each of ``layers`` but the last: a Dense layer's activation, or z before that.
        """
        return layer_outputs(self, checked_features(self, X))

    def diagnose(
        self,
        X: Any,
        y: Any,
        optimizer: str | Optimizer | LBFGS | None = None,
        batch_size: int = 32,
    ) -> Diagnosis:
        """Tell in words why this network does not learn, and what may help.

        One pass over at most 2,000 samples measures each layer and finds vanishing and exploding
        gradients, dead ReLU units, saturation and symmetric units. With an ``optimizer``, five
        epochs of a copy of the network tell whether the learning rate suits. The network stays as
        it is. `History.diagnose` tells whether it overfits.

        Parameters
        ----------
        X, y
            As `fit` takes them; all samples weigh the same.
        optimizer : str, Optimizer or LBFGS, optional
            What it is to be trained with.
        batch_size : int
            Samples a step of that training.

        Returns
        -------
        Diagnosis
            A list of `Finding`, the gravest first; empty where no fault was found. Print it to read
            it all.

        Examples
        --------
        >>> import fastnn as fnn
        >>> (X, y), _ = fnn.datasets.mnist_sample()
        >>> net = fnn.mlp([784, 30, 30, 30, 30, 10], "sigmoid", init="nielsen", backend="numpy")
        >>> net.diagnose(X, y)[0].fault
        'vanishing gradient'
        """
        kind = None if optimizer is None else as_optimizer(optimizer)
        batch_size = checks.integer("batch_size", batch_size)
        return examine(self, checked_samples(self, X, y), kind, batch_size)

    def penalty(self) -> float:
        """½λ₂Σw² + λ₁Σ|w| over all Dense layers."""
        return penalty(self.program, self.state)

    def copy(
        self, dtype: Any = None, backend: str | None = None, precision: str | None = None
    ) -> "Network":
        """A network of its own with the same description and state, but a fresh optimiser.

        Parameters
        ----------
        dtype, backend, precision : optional
            As in `Network`; None means the same, or precision "float32" where the copy cannot have
            the same.
        """
        dtype, backend = as_dtype(dtype or self.dtype), engines.choose(backend or self.backend)
        precision = precision or engines.precision_for(self.precision, backend, dtype)
        description = dataclasses.replace(self._description, dtype=dtype, precision=precision)
        engines.check_precision(precision, backend, dtype)
        twin = Network.__new__(Network)
        twin._build(description, backend, description.blank_state())
        twin.state.theta[:] = self.state.read_only_copy("theta")
        twin.state.buffers[:] = self.state.read_only_copy("buffers")
        twin.state.step, twin.epochs = self.state.step, self.epochs
        twin.metadata = copy.deepcopy(self.metadata)
        return twin

    # --- files ------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network with its optimiser's state and ``metadata`` to one file.

        Raises
        ------
        OSError
            No space, no permission, no such folder; an older file at ``path`` is then intact.
        """
        serialization.save(self, path)
