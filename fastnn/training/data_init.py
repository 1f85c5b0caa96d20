"""Weights and biases that are completed by the first data that a network is trained on.

`fastnn.nn.initializers.Initializer` describes them. The engine computes what lies before a layer,
by the same op table cut short.
"""

from dataclasses import replace

import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.contract import ArrayInfo
from fastnn.engines import make_engine
from fastnn.nn.initializers import Draw, FromData
from fastnn.nn.losses import Loss
from fastnn.nn.protocol import NetworkProtocol
from fastnn.training.samples import TrainingData

_MOST_ROWS = 1 << 14
_ROWS_OF_A_BIAS = 5
_ROUNDING = 1e-6  # of the mean square root: a smaller standard deviation may be none at all


def complete(net: NetworkProtocol, data: TrainingData) -> None:
    """Complete the arrays of a network that was never trained; those that were set stay."""
    if net.epochs > 0:
        return
    waiting = {
        array.offset: number
        for number, array in enumerate(net.program.parameters)
        if isinstance(array.init, FromData) and _is_as_it_started(net, array, number)
    }
    X = _rows(data) if waiting else np.zeros(0)
    for i, op in enumerate(net.program.ops):
        weight, bias = int(op["weight"]), int(op["bias"])
        if op["code"] != opcodes.DENSE or not {weight, bias} & waiting.keys():
            continue
        x = _input_of(net, i, X).astype(np.float64)
        w = net.state.theta[weight : weight + op["n_in"] * op["n_out"]]
        w = w.reshape(op["n_in"], op["n_out"])
        if weight in waiting:
            w /= _spread(op["factor"] * (x @ w)).astype(w.dtype)
        if bias in waiting:
            b = net.state.theta[bias : bias + op["n_out"]]
            b[:] = -_mixture(op["factor"] * (x @ w), Draw(net.seed, waiting[bias]))


def _is_as_it_started(net: NetworkProtocol, array: ArrayInfo, number: int) -> bool:
    start = array.init(array.name, array.shape, Draw(net.seed, number))
    return np.array_equal(array.view(net.state.theta), start.astype(net.dtype))


def _rows(data: TrainingData) -> np.ndarray:
    """Rows to train on, evenly spaced where there are many."""
    X, n = data.samples.X, len(data.indices)
    X = X if isinstance(X, np.ndarray) else X.to_host()  # a `GpuArray`
    return X[data.indices[np.linspace(0, n - 1, min(n, _MOST_ROWS)).astype(np.int64)]]


def _input_of(net: NetworkProtocol, i: int, X: np.ndarray) -> np.ndarray:
    """What operation i reads for rows of X, (rows, n_in)."""
    op = net.program.ops[i]
    if op["x"] == opcodes.INPUT:
        return X
    before = replace(
        net.program,
        ops=net.program.ops[:i],
        output=int(op["x"]),
        n_outputs=int(op["n_in"]),
        members=1,
        loss=Loss("mse").record(),
    )
    return make_engine(net.backend, before).forward(net.state, X)[0]


def _spread(z: np.ndarray) -> np.ndarray:
    """The standard deviation of each column, or 1 where it does not vary."""
    std = z.std(axis=0)
    return np.where(std > _ROUNDING * np.sqrt(np.square(z).mean(axis=0)), std, 1.0)


def _mixture(z: np.ndarray, draw: Draw) -> np.ndarray:
    """For each column the mean of a few random rows, with random weights uniform on the simplex."""
    n, units = _ROWS_OF_A_BIAS, z.shape[1]
    rows, weights = draw.uniform(2 * n * units).reshape(2, n, units)
    rows = (rows * len(z)).astype(np.int64)
    weights = -np.log(weights)  # Exp(1)
    return (weights * z[rows, np.arange(units)]).sum(axis=0) / weights.sum(axis=0)
