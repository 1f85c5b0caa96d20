"""The gradient by finite differences, beside backpropagation: error and cost.

Source: ml4a, How neural networks are trained: "Backpropagation".

Expected: (J(W + εeᵢ) − J(W))/ε for each of P parameters takes P + 1 forward passes; backpropagation
takes one pass forward and one backward that costs about as much, about 2. Both give the same
gradient: the error of the one-sided difference falls with ε, that of the central one with ε², until
rounding takes over.
"""

import time
from typing import TYPE_CHECKING

import numpy as np

from fastnn._kernels.contract import Samples
from fastnn.diagnostics.gradient_check import check_gradients
from fastnn.experiments.data import Data
from fastnn.experiments.result import Check, ExperimentResult, at_least, at_most, close
from fastnn.models import mlp
from fastnn.network import Network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZES = [784, 15, 10]
_SAMPLES, _TIMED = 100, 1000
_STEPS = 10.0 ** -np.arange(1, 12)
_STEP = 1e-6
_ROUNDS = 200  # of timing
_PROBES = 50  # parameters at which the error is measured for each step
_SOURCE = "ml4a, Backpropagation"


def run(quick: bool, data: Data) -> ExperimentResult:
    """All of it is the same in quick mode."""
    X, y = data.first(_SAMPLES)
    net = mlp(_SIZES, activation="tanh", dtype="float64")
    started = time.perf_counter()
    differences, passes = _finite_differences(net, X, y)
    by_differences = time.perf_counter() - started
    exact = _flat(net.gradients(X, y)[1])
    one_loss, backpropagation = _median_seconds(
        lambda: _loss(net, X, y), lambda: net.gradients(X, y)
    )
    one_sided, central = _errors_by_step(net, X, y, exact)
    scale = np.abs(exact).max()
    checks = [
        at_most(
            "largest error of backpropagation, by check_gradients",
            "central differences",
            1e-6,
            max(check_gradients(net, X, y).values()),
        ),
        at_most(
            "largest error of the one-sided differences",
            f"{_SOURCE}, ε = {_STEP:g}",
            1e-5,
            np.abs(differences - exact).max() / scale,
        ),
        close(
            "forward passes by differences, P + 1",
            f"{_SOURCE}, P = {net.n_parameters:,}",
            net.n_parameters + 1,
            passes,
        ),
        Check(
            "cost of backpropagation in forward passes",
            f"{_SOURCE}, about 2",
            2.0,
            _cost_in_passes(net, data),
            1.3,
            3.0,
        ),
        at_least(
            "time by differences over time by backpropagation",
            "a tenth of (P + 1)/2",
            net.n_parameters / 20,
            by_differences / backpropagation,
        ),
        *_order_checks(one_sided, central),
    ]
    series = {
        "steps": _STEPS,
        "one_sided": one_sided,
        "central": central,
        "parameters": net.n_parameters,
        "seconds": {
            "one loss": one_loss,
            "backpropagation": backpropagation,
            "finite differences": by_differences,
        },
    }
    return ExperimentResult(checks, series)


def draw(result: ExperimentResult) -> "Figure":
    """Errors by the size of the step, and seconds."""
    from fastnn import plotting

    series = result.series
    figure, (left, right) = plotting.new_axes(1, 2)
    errors = {"one-sided": series["one_sided"], "central": series["central"]}
    plotting.lines(
        errors, series["steps"], "step ε", "largest error / largest component", log=True, ax=left
    )
    left.set(title="Finite differences beside backpropagation", xscale="log")
    plotting.layer_bars(
        list(series["seconds"].values()), list(series["seconds"]), "seconds", ax=right
    )
    right.set(
        title=f"One gradient of {series['parameters']:,} parameters, {_SAMPLES} samples", xlabel=""
    )
    return figure


def _flat(gradients):
    return np.concatenate([gradient.ravel() for gradient in gradients.values()])


def _loss(net, X, y):
    return net.evaluate(X, y, metrics=())["loss"]


def _finite_differences(net: Network, X, y):
    """(J(W + εeᵢ) − J(W))/ε of every parameter, and the number of forward passes that it took."""
    here, passes, differences = _loss(net, X, y), 1, []
    for values in net.parameters.values():
        flat = values.reshape(-1)  # a view: what is written there is the network's
        for i in range(flat.size):
            differences.append((_moved(net, flat, i, _STEP, X, y) - here) / _STEP)
            passes += 1
    return np.array(differences), passes


def _moved(net, flat, i, step, X, y):
    """The loss with one parameter moved."""
    kept = flat[i]
    flat[i] = kept + step
    loss = _loss(net, X, y)
    flat[i] = kept
    return loss


def _errors_by_step(net, X, y, exact):
    """Largest errors of both kinds of difference for each step, over some of the last weights."""
    flat, gradient = (
        net.parameters["1.weight"].reshape(-1),
        net.gradients(X, y)[1]["1.weight"].reshape(-1),
    )
    here, scale = _loss(net, X, y), np.abs(exact).max()
    one_sided, central = np.zeros((2, len(_STEPS)))
    for k, step in enumerate(_STEPS):
        up, down = (
            np.array([_moved(net, flat, i, sign * step, X, y) for i in range(_PROBES)])
            for sign in (1.0, -1.0)
        )
        one_sided[k] = np.abs((up - here) / step - gradient[:_PROBES]).max() / scale
        central[k] = np.abs((up - down) / (2 * step) - gradient[:_PROBES]).max() / scale
    return one_sided, central


def _order_checks(one_sided, central):
    return [
        close(
            "order of the one-sided error",
            "Taylor series, ε",
            1.0,
            _order(one_sided, 1e-2, 1e-4),
            absolute=0.1,
        ),
        close(
            "order of the central error",
            "Taylor series, ε²",
            2.0,
            _order(central, 1e-1, 1e-3),
            absolute=0.1,
        ),
    ]


def _order(errors, large, small):
    """The power of ε that the error falls with between two steps."""
    first, last = (int(np.argmin(np.abs(np.log(_STEPS / step)))) for step in (large, small))
    return np.log(errors[first] / errors[last]) / np.log(large / small)


def _cost_in_passes(net, data):
    """The time of backpropagation over that of a forward pass, of the engine alone.

    Samples are many enough that Python's own time does not count.
    """
    X, y = data.first(_TIMED)
    samples = Samples(X.astype(net.dtype), labels=y)
    forward, both = _median_seconds(
        lambda: net.engine.forward(net.state, samples.X),
        lambda: net.engine.gradients(net.state, samples, training=False),
    )
    return both / forward


def _median_seconds(*calls):
    """Of each call, made in turns."""
    seconds = np.zeros((_ROUNDS, len(calls)))
    for clocks in seconds:
        for i, call in enumerate(calls):
            started = time.perf_counter()
            call()
            clocks[i] = time.perf_counter() - started
    return np.median(seconds, axis=0)
