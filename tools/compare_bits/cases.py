"""The cases: each has a name and a function that returns its result.

A name tells the engine, the dtype and the number of threads: "numba float32 2 | loss: mae".
"""

import contextlib
import functools
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from digests import digest, digests, to_hex, training_digests
from optimization_recipes import schedules
from recipe import Recipe, random_targets
from recipes import all_recipes

import fastnn as fnn

DTYPES = ("float32", "float64")
# Parameters times samples of a mini-batch. The compiled engines use two threads from 150,000 on;
# smaller networks are trained on one thread only.
SHARED_WORK = 200_000

Case = Callable[[], dict[str, Any]]


def select_cases(engines: Sequence[str], only: str) -> dict[str, Case]:
    """All cases of some engines whose names contain a text."""
    cases = {**data_cases(), **engine_cases(engines), **training_cases(engines)}
    return {name: run for name, run in cases.items() if only in name}


def on_threads(threads: int, run: Callable[..., Any], *arguments: Any) -> Any:
    """Set the number of threads and call a function."""
    fnn.set_num_threads(threads)
    return run(*arguments)


def threads_for(recipe: Recipe, engine: str) -> tuple[int, ...]:
    """The numbers of threads that an engine uses in different ways."""
    parameters = recipe.network("numpy", "float32").n_parameters
    work = min(recipe.batch_size, recipe.samples) * parameters
    return (1, 2) if engine != "numpy" and work >= SHARED_WORK else (1,)


def training_cases(engines: Sequence[str]) -> dict[str, Case]:
    """A training for each engine, recipe, number of threads and dtype."""
    return {
        f"{engine} {dtype} {threads} | {name}": functools.partial(
            on_threads, threads, training_digests, recipe, engine, dtype
        )
        for engine in engines
        for name, recipe in all_recipes().items()
        for threads in threads_for(recipe, engine)
        for dtype in DTYPES
    }


def engine_cases(engines: Sequence[str]) -> dict[str, Case]:
    """Results that depend on an engine and follow no recipe."""
    runs = {
        "network2": nielsen_network,
        "checked_gradients": gradient_check,
        "diagnosed": diagnoses,
    }
    return {
        f"{engine} {dtype} 1 | other: {name}": functools.partial(on_threads, 1, run, engine, dtype)
        for engine in engines
        for dtype in DTYPES
        for name, run in runs.items()
    }


def data_cases() -> dict[str, Case]:
    """Results that depend on no engine."""
    return {
        "other | schedules": schedule_values,
        "other | splits": splits,
        "other | scalers": scalers,
        "other | sample of MNIST": mnist_sample,
    }


def schedule_values() -> dict[str, Any]:
    """The learning rates of the first 40 steps."""
    return {
        name: to_hex([schedule(step) for step in range(40)])
        for name, schedule in schedules().items()
    }


def splits() -> dict[str, Any]:
    """Random splits and folds of samples."""
    X, y = np.arange(200.0).reshape(100, 2), np.arange(100) % 3
    two = fnn.data.train_test_split(X, y, seed=4)
    three = fnn.data.train_validation_test_split(X, y, seed=4, stratify=True)
    folds = [indices for pair in fnn.data.k_fold(100, 7, 4) for indices in pair]
    arrays = {"two": two, "three": three, "folds": folds}
    return {name: [digest(array) for array in group] for name, group in arrays.items()}


def scalers() -> dict[str, Any]:
    """Features scaled, and scaled back."""
    result = {}
    X = np.random.default_rng(6).normal(3, 2, (150, 7))
    for name in ("Standardizer", "MinMaxScaler"):
        scaler = getattr(fnn.data, name)().fit(X)
        scaled = scaler.transform(X)
        result[name] = digests({"scaled": scaled, "back": scaler.inverse_transform(scaled)})
    return result


def mnist_sample() -> dict[str, Any]:
    """The images and labels that the package contains."""
    arrays = [array for pair in fnn.datasets.mnist_sample() for array in pair]
    return {"arrays": [digest(array) for array in arrays]}


def nielsen_network(engine: str, dtype: str) -> dict[str, Any]:
    """The training of a network of Nielsen's book, with what it monitors."""
    network2 = fnn.nielsen.network2
    rng = np.random.default_rng(3)
    pairs = [(x[:, None], k % 4) for k, x in enumerate(rng.normal(size=(70, 30)))]
    result = {}
    for name in ("CrossEntropyCost", "QuadraticCost"):
        cost = getattr(network2, name)
        net = network2.Network([30, 20, 4], cost=cost, seed=3, dtype=dtype, backend=engine)
        with contextlib.redirect_stdout(io.StringIO()):
            monitored = net.SGD(pairs, 4, 10, 0.5, 0.1, pairs[:20], True, True, True, True)
        net.update_mini_batch([(x, np.eye(4)[:, [k]]) for x, k in pairs[:9]], 0.1, 0.1, 70)
        result[name] = {
            "monitored": to_hex(monitored),
            "weights": [digest(w) for w in net.weights],
            "biases": [digest(b) for b in net.biases],
            "output": digest(net.feedforward(pairs[0][0])),
        }
    return result


def gradient_check(engine: str, dtype: str) -> dict[str, Any]:
    """The errors that `fastnn.check_gradients` measures."""
    net = fnn.Network([fnn.Dense(6, "tanh"), fnn.Dense(3)], 4, "mse", dtype, engine, 5)
    X, y = np.random.default_rng(7).normal(size=(9, 4)), random_targets("values", 9, 3)
    return {"errors": to_hex(fnn.check_gradients(net, X, y))}


def diagnoses(engine: str, dtype: str) -> dict[str, Any]:
    """Diagnoses of networks: untrained, with another optimiser, and after a short training."""
    rng, result = np.random.default_rng(9), {}
    X, y = rng.normal(size=(200, 20)), rng.integers(3, size=200)
    sizes, options = [20, 12, 12, 12, 12, 3], {"dtype": dtype, "backend": engine, "seed": 2}
    pairs = (("nielsen", "sigmoid"), ("standard_normal", "relu"), ("zeros", "tanh"))
    for init, activation in pairs:
        net = fnn.mlp(sizes, activation, init=init, **options)
        settings = {"validation": 0.2, "callbacks": [fnn.GradientFlow(5)], "progress": False}
        history = net.copy().fit(X, y, 3, **settings)
        result[f"{init} {activation}"] = [
            [[f.fault, list(f.layers), to_hex([f.measured, f.threshold])] for f in diagnosis]
            for diagnosis in (
                net.diagnose(X, y),
                net.diagnose(X, y, fnn.SGD(1.0)),
                history.diagnose(),
            )
        ]
    return result
