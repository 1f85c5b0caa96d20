"""Extreme numbers in every engine: finite parameters, or an error that says what went wrong."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fnn
from campaigns.running import check
from fastnn.nn.activations import ACTIVATIONS
from fastnn.optim.optimizers import LBFGS, OPTIMIZERS

_ENGINES = [name for name in ("numpy", "numba", "cython") if fnn.backends()[name] == "available"]
_INPUTS, _OUTPUTS = 4, 3
_EXPONENTS = {"float32": (-45, 38), "float64": (-320, 308)}  # of the numbers that there are
_LOSSES = {
    "labels": ("softmax_cross_entropy",),
    "bits": ("binary_cross_entropy",),
    "counts": ("poisson",),
    "values": ("mse", "huber"),
}


def _numbers(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers around 1, of any one size, of all sizes at once, or with a few that stand out."""
    values, (low, high) = rng.normal(size=shape), _EXPONENTS[dtype]
    kind = rng.integers(6)
    with np.errstate(over="ignore", under="ignore"):
        if kind == 1:
            values *= 10.0 ** rng.uniform(low, high)
        elif kind == 2:
            values *= 10.0 ** rng.uniform(low, high, shape)
        elif kind == 3:
            values[rng.random(shape) < 0.1] = rng.choice([-1, 1]) * 10.0 ** rng.uniform(low, high)
        elif kind == 4:
            values = np.full(shape, rng.choice([0.0, 1e-30, 1e8, float(np.finfo(dtype).max)]))
        values = values.astype(dtype)
    return np.nan_to_num(values, posinf=float(np.finfo(dtype).max), neginf=0.0)


def _targets(rng: np.random.Generator, kind: str, dtype: str, rows: int) -> np.ndarray:
    if kind == "labels":
        return rng.integers(_OUTPUTS, size=rows)
    if kind == "bits":
        return rng.integers(0, 2, (rows, _OUTPUTS)).astype(dtype)
    values = _numbers(rng, dtype, (rows, _OUTPUTS))
    return np.abs(values) if kind == "counts" else values


def _network(rng: np.random.Generator, loss: str, dtype: str, engine: str) -> fnn.Network:
    activation = list(ACTIVATIONS)[rng.integers(len(ACTIVATIONS))]
    layers: list[Any] = [fnn.Dense(5, activation), fnn.Dense(_OUTPUTS)]
    extra = (None, fnn.BatchNorm(), fnn.LayerNorm(), fnn.Dropout(0.3), fnn.GaussianNoise(0.1))
    if (layer := extra[rng.integers(len(extra))]) is not None:
        layers.insert(1, layer)
    seed = int(rng.integers(1000))
    return fnn.Network(layers, _INPUTS, loss, dtype=dtype, seed=seed, backend=engine)


def _optimizer(rng: np.random.Generator) -> Any:
    names = list(OPTIMIZERS)
    kind = OPTIMIZERS[names[rng.integers(len(names))]]
    if kind is LBFGS:
        return LBFGS()
    rate = 10.0 ** (rng.uniform(-4, 0) if rng.random() < 0.7 else rng.uniform(-30, 30))
    norm = (None, 1.0, 1e-20, 1e20)[rng.integers(4)]
    return kind(rate, clip_norm=norm)


def _may_overflow(net: fnn.Network, X: np.ndarray) -> bool:
    """Whether a number on the way to a prediction may exceed the largest one.

    It may be a sum of products, or a square in a normalisation. Then two infinities may cancel.
    """
    largest = np.log10(max(np.abs(X).max(), 1.0))
    for values in net.parameters.values():
        largest += np.log10(max(np.abs(values).max(), 1.0)) + np.log10(len(values))
    for name, values in net.buffers.items():  # a normalisation may divide by a small deviation
        if name.endswith("running_var"):
            largest -= np.log10(values.min() + 1e-6) / 2
    if any(isinstance(layer, fnn.LayerNorm) for layer in net.layers):
        largest *= 2
    return largest + 2 > np.log10(np.finfo(net.dtype).max)


class Campaign:
    """Trainings and what comes after them: predictions, and the model in a file."""

    def __init__(self, folder: Path):
        self.path = folder / "m.fastnn"
        os.environ.setdefault("FASTNN_NUM_THREADS", "1")
        warnings.simplefilter("error", RuntimeWarning)
        for engine in _ENGINES:  # compiles
            self._check_after(fnn.mlp([_INPUTS, _OUTPUTS], backend=engine), np.ones((2, _INPUTS)))

    def attempt(self, rng: np.random.Generator) -> str:
        engine = _ENGINES[rng.integers(len(_ENGINES))]
        dtype = ("float32", "float64")[rng.integers(2)]
        kind = list(_LOSSES)[rng.integers(len(_LOSSES))]
        loss = _LOSSES[kind][rng.integers(len(_LOSSES[kind]))]
        rows = int(rng.choice([1, 2, 33, 64]))
        X, y = _numbers(rng, dtype, (rows, _INPUTS)), _targets(rng, kind, dtype, rows)
        net = _network(rng, loss, dtype, engine)
        if rng.random() < 0.2:
            net.parameters["0.weight"] = _numbers(rng, dtype, (_INPUTS, 5))
        outcome = self._fit(rng, net, X, y)
        return f"{engine}: {outcome}{self._check_after(net, X)}"

    def _fit(self, rng: np.random.Generator, net: fnn.Network, X: Any, y: Any) -> str:
        options: dict[str, Any] = {"epochs": 3, "batch_size": int(rng.choice([1, 8, 32]))}
        if rng.random() < 0.3:
            options["sample_weight"] = np.abs(_numbers(rng, "float32", (len(X),)))
        if len(X) > 2 and rng.random() < 0.3:
            options["validation"] = 0.5
        try:
            net.fit(X, y, optimizer=_optimizer(rng), progress=False, **options)
        except fnn.DivergenceError:
            return "diverged, and said so"
        except ValueError:
            return "refused"
        return "trained"

    def _check_after(self, net: fnn.Network, X: np.ndarray) -> str:
        """Check that a network that was trained, in whatever way that ended, is sound."""
        for name, values in net.parameters.items():
            check(np.isfinite(values).all(), f"parameter {name} is not finite")
        predicted = net.predict(X)
        is_nan = np.isnan(predicted).any()
        check(not is_nan or _may_overflow(net, X), "predictions are NaN")
        net.save(self.path)
        loaded = fnn.load(self.path, net.backend)
        check(
            np.array_equal(loaded.predict(X), predicted, equal_nan=True),
            "other predictions after loading",
        )
        return "; predictions overflow" if is_nan else ""
