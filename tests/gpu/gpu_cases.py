"""Networks for both paths of the CUDA engine, and comparisons with the reference."""

import os

import numpy as np
from builders import (
    EVERYTHING,
    LOSS_CASES,
    OUTPUTS,
    STACKS,
    features,
    layer,
    network,
    relative_error,
    targets,
)

import fastnn as fnn

BACKEND = os.environ.get("FASTNN_TEST_GPU_BACKEND", "cuda")
SIMULATED = os.environ.get("FASTNN_TEST_GPU_SIMULATOR", "0") == "1"
DTYPES = ("float32", "float64")
GRADIENT_ERROR = {"float32": 2e-5, "float64": 1e-10}  # relative to the norm over all parameters
WIDE = 160  # widths above 128 take the graph path
PATHS = ("persistent", "graph")
ROWS = 23  # four batches of six, the last one of five


def widened(layers):
    """Layers behind a wide one: the graph path."""
    return [fnn.Dense(WIDE, "tanh"), *layers]


def stack(layers, path):
    return widened(layers) if path == "graph" else layers


def wide_example(kind, activation="tanh"):
    """A wide layer of this kind between wide layers."""
    return [
        fnn.Dense(WIDE),
        layer(kind, activation, units=WIDE),
        fnn.Dense(WIDE - 23, activation),
        fnn.Dense(OUTPUTS),
    ]


# Several hidden layers and both norms. There is no bias before BatchNorm: its gradient would be
# rounding errors alone.
WIDE_EVERYTHING = [
    fnn.Dense(WIDE, bias=False, max_norm=1.5, l2=0.01),
    fnn.BatchNorm(),
    fnn.Activation("tanh"),
    fnn.Dropout(0.2),
    fnn.Residual(
        [
            fnn.LayerNorm(),
            fnn.Dense(WIDE, "gelu", l1=0.001),
            fnn.GaussianNoise(0.1),
            fnn.Dense(WIDE),
        ],
        activation="softplus",
    ),
    fnn.Dense(OUTPUTS),
]
BOTH = {"persistent": EVERYTHING, "graph": WIDE_EVERYTHING}
MLP = {
    "persistent": [fnn.Dense(24, "tanh"), fnn.Dense(OUTPUTS)],
    "graph": [fnn.Dense(WIDE, "tanh"), fnn.Dense(OUTPUTS)],
}
ALL_STACKS = STACKS | {"everything": EVERYTHING}


def make(layers, loss="quadratic", dtype="float32", **options):
    """A network on the engine that is tested."""
    return network(layers, loss, BACKEND, dtype, **options)


def reference_of(net):
    """The same network on the reference in float64; differences show the engine's rounding."""
    twin = net.copy(dtype="float64", backend="numpy")
    if net.optimizer_kind is not None:
        twin.use_optimizer(net.optimizer_kind)
    return twin


def data(loss="quadratic", rows=ROWS, dtype="float32", scale=1.0):
    """Features that both number types hold exactly, and targets."""
    return (scale * features(rows)).astype(np.float32).astype(dtype), _exactly(
        targets(LOSS_CASES[loss][1], rows)
    )


def _exactly(y):
    return y if y.dtype.kind == "i" else y.astype(np.float32).astype(np.float64)


def gradient_error(net, X, y, **options):
    """‖gradient − the reference's‖ / ‖the reference's‖, and the relative error of the loss."""
    reference = reference_of(net)
    loss, found = net.gradients(X, y, training=True, **options)
    expected_loss, expected = reference.gradients(X, y, training=True, **options)
    return relative_error(found, expected), abs(loss - expected_loss) / max(
        abs(expected_loss), 1e-30
    )


def assert_gradients(net, X, y, factor=1.0, **options):
    error, loss_error = gradient_error(net, X, y, **options)
    limit = factor * GRADIENT_ERROR[net.dtype.name]
    assert error <= limit, f"gradients differ by {error:.1e}"
    assert loss_error <= limit, f"losses differ by {loss_error:.1e}"
