"""Small data sets, and networks built from the library's own tables.

A new row of a table appears here, and so in the tests, without an edit.
"""

import contextlib
import inspect
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import fastnn as fnn
from fastnn._kernels.tables import LOSSES
from fastnn.nn.layers import LAYERS
from fastnn.optim.optimizers import OPTIMIZERS, Optimizer

# Those that run here, or those of them that FASTNN_TEST_ENGINES names, as "numpy,cython".
ENGINES = [name for name, status in fnn.backends().items() if status == "available"]
ENGINES = [
    name for name in ENGINES if name in os.environ.get("FASTNN_TEST_ENGINES", name).split(",")
]
# Those that may stand anywhere; Embedding must be the first, an ensemble of networks the last.
INNER_LAYERS = [kind for kind in LAYERS if kind not in ("Embedding", "BatchEnsemble", "Heads")]
# Of three numbers, for `PiecewiseLinear`.
EDGES = [[-1.0, -0.2, 0.1, 0.9], [-2.0, 0.0], [-1.0, -0.5, 0.0, 0.5, 1.0]]
COMPILED = [name for name in ENGINES if name != "numpy"]
INPUTS, OUTPUTS, WIDTH = 4, 3, 5

# --- data -----------------------------------------------------------------------------------------

_KIND_OF_LINK = {
    "softmax": "labels",
    "sigmoid": "bits",
    "exp": "counts",
    "identity": "values",
    "sort": "value",
}
# Case → (loss, kind of its targets): each loss, each with another constant, and further targets.
LOSS_CASES = {name: (name, _KIND_OF_LINK[row.link]) for name, row in LOSSES.items()}
LOSS_CASES |= {
    f"{name}, {constant} 0.3": (fnn.Loss(name, **{constant: 0.3}), _KIND_OF_LINK[row.link])
    for name, row in LOSSES.items()
    for constant in row.constants
}
LOSS_CASES |= {
    "soft targets": ("softmax_cross_entropy", "probabilities"),
    "smoothed soft targets": (
        fnn.Loss("softmax_cross_entropy", label_smoothing=0.3),
        "probabilities",
    ),
    "binary probabilities": ("binary_cross_entropy", "probabilities of bits"),
    "other levels": (fnn.Loss("quantile", levels=(0.02, 0.3, 0.6)), "value"),
}


def features(rows, inputs=INPUTS, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, inputs))


def targets(kind, rows, outputs=OUTPUTS, seed=1):
    """Targets of a kind.

    Kinds are labels, probabilities (of classes: rows sum to 1), probabilities of bits, bits,
    counts, values, and one value for each row.
    """
    rng = np.random.default_rng(seed)
    if kind == "labels":
        return rng.integers(outputs, size=rows)
    if kind == "probabilities":
        return rng.dirichlet(np.ones(outputs), rows)
    shape = (rows, 1 if kind == "value" else outputs)
    draws = {
        "probabilities of bits": rng.uniform,
        "counts": lambda size: rng.poisson(2.0, size),
        "values": lambda size: rng.normal(size=size),
        "value": lambda size: rng.normal(size=size),
    }
    return draws[kind](size=shape) if kind in draws else rng.integers(0, 2, shape).astype(float)


def sample_weights(rows, seed=2):
    """Weights from 0 to 3, some of them 0."""
    return np.random.default_rng(seed).integers(0, 4, rows) * 1.0 + (np.arange(rows) == 0)


# --- networks -------------------------------------------------------------------------------------


def layer(kind, activation="tanh", units=WIDTH, rate=0.4, std=0.3):
    """A layer of this kind, from those of the arguments that its class accepts."""
    inner = [fnn.Dense(units, activation), fnn.Dense(units)]
    given = {
        "units": units,
        "activation": activation,
        "name": activation,
        "rate": rate,
        "std": std,
        "layers": inner,
        "bins": EDGES,
        "size": 3,
        "features": len(EDGES),
    }
    accepted = inspect.signature(LAYERS[kind]).parameters
    return LAYERS[kind](**{name: value for name, value in given.items() if name in accepted})


def example(kind, activation="tanh"):
    """Layers with one of this kind in the middle, and an activation."""
    return [
        fnn.Dense(WIDTH),
        layer(kind, activation),
        fnn.Dense(OUTPUTS + 1, activation),
        fnn.Dense(OUTPUTS),
    ]


# What `example` leaves out. Max-norm constraints and penalties act in training.
STACKS = {
    "projection": [
        fnn.Dense(WIDTH, "tanh"),
        fnn.Residual([fnn.Dense(3, "silu")], activation="elu"),
        fnn.Dense(OUTPUTS),
    ],
    "forced projection": [
        fnn.Residual([fnn.Dense(INPUTS, "gelu")], projection=True),
        fnn.Dense(OUTPUTS),
    ],
    "nested residuals": [
        fnn.Dense(WIDTH),
        fnn.Residual(
            [
                fnn.Dense(WIDTH, "gelu"),
                fnn.Residual([fnn.BatchNorm(), fnn.Dense(WIDTH, "mish")]),
                fnn.Dropout(0.3),
            ],
            activation="relu",
        ),
        fnn.Residual([fnn.Residual([fnn.Residual([fnn.Dense(2, "tanh"), fnn.Dense(WIDTH)])])]),
        fnn.Dense(OUTPUTS),
    ],
    "residuals without parameters": [
        fnn.Residual([fnn.Activation("tanh")]),
        fnn.Residual([fnn.Dropout(0.5)], activation="softsign"),
        fnn.Dense(WIDTH, "relu"),
        fnn.Residual([fnn.GaussianNoise(0.5), fnn.Dropout(0.0)]),
        fnn.Dense(OUTPUTS),
    ],
    "output is a residual": [
        fnn.Dense(OUTPUTS),
        fnn.Residual([fnn.Dense(OUTPUTS), fnn.LayerNorm()]),
    ],
    "dropout on inputs": [
        fnn.Dropout(0.3),
        fnn.Dense(WIDTH, "silu"),
        fnn.Dropout(0.5),
        fnn.Dense(OUTPUTS),
    ],
    "scheduled dropout": [
        fnn.Dropout(fnn.FlatCosine(0.5, 8, 0.25)),
        fnn.Dense(WIDTH, "sigmoid"),
        fnn.Dropout(fnn.Warmup(6, 0.4)),
        fnn.Dense(WIDTH, "mish"),
        fnn.Dropout(0.2),
        fnn.Dense(OUTPUTS),
    ],
    "noise on inputs": [
        fnn.GaussianNoise(0.5),
        fnn.Dense(WIDTH, "tanh"),
        fnn.GaussianNoise(0.2),
        fnn.Dropout(0.2),
        fnn.Dense(OUTPUTS),
    ],
    "noise and dropout on inputs": [
        fnn.GaussianNoise(0.5),
        fnn.Dropout(0.3),
        fnn.Activation("gelu"),
        fnn.Dense(OUTPUTS),
    ],
    "activation on inputs": [
        fnn.Activation("mish"),
        fnn.Dropout(0.3),
        fnn.Activation("tanh"),
        fnn.Dense(OUTPUTS),
    ],
    "norms on inputs": [fnn.BatchNorm(), fnn.LayerNorm(), fnn.Dense(OUTPUTS)],
    "norms at the end": [
        fnn.Dense(WIDTH, "elu"),
        fnn.BatchNorm(momentum=0.5, epsilon=1e-2),
        fnn.Dense(OUTPUTS),
        fnn.LayerNorm(1e-2),
    ],
    "dropout at the end": [fnn.Dense(WIDTH, "relu"), fnn.Dense(OUTPUTS), fnn.Dropout(0.5)],
    "activation at the end": [fnn.Dense(WIDTH, "relu"), fnn.Dense(OUTPUTS, "sigmoid")],
    "one after the other": [
        fnn.Dense(WIDTH, fnn.Activation("leaky_relu", alpha=0.3)),
        fnn.Activation("elu", alpha=2.0),
        fnn.Dropout(0.2),
        fnn.Dropout(0.2),
        fnn.Activation("silu"),
        fnn.Dense(OUTPUTS),
    ],
    "no bias": [
        fnn.Dense(WIDTH, "softplus", bias=False),
        fnn.BatchNorm(),
        fnn.Dense(OUTPUTS, bias=False),
    ],
    "penalties": [
        fnn.Dense(WIDTH, "tanh", l1=0.1, l2=0.2),
        fnn.Dense(WIDTH, "tanh", l1=0.3),
        fnn.Dense(OUTPUTS, l2=0.4),
    ],
    "max norm": [fnn.Dense(WIDTH, "tanh", max_norm=0.7), fnn.Dense(OUTPUTS, max_norm=0.2, l2=0.1)],
    "parametric activations": [
        fnn.Dense(WIDTH, fnn.Activation("selu", parametric=True)),
        fnn.Dropout(0.3),
        fnn.Residual(
            [fnn.Dense(WIDTH), fnn.Activation("mish", parametric=True, lr_factor=0.1)],
            activation=fnn.Activation("leaky_relu", True, decay_factor=0.5, alpha=0.3),
        ),
        fnn.Dense(OUTPUTS),
    ],
    "piecewise": [
        fnn.PiecewiseLinear(EDGES, 4, lr_factor=2.0, decay_factor=0.5),
        fnn.Dropout(0.2),
        fnn.Residual([fnn.PiecewiseLinear(EDGES[:2], 1), fnn.Dense(13, "tanh")]),
        fnn.Dense(OUTPUTS),
    ],
    "periodic": [
        fnn.Periodic(5, 0.4, 2, lr_factor=2.0, decay_factor=0.5),
        fnn.Dropout(0.2),
        fnn.Residual([fnn.Periodic(3, 0.4, 4, shared=True, features=2), fnn.Dense(12, "tanh")]),
        fnn.Dense(OUTPUTS),
    ],
    "periodic with sines": [
        fnn.Periodic(5, 0.4, 2, "plr", features=3, decay_factor=0.5),
        fnn.Activation("sigmoid"),
        fnn.Residual([fnn.Periodic(3, 0.4, 2, "plr", shared=True), fnn.Dense(7)]),
        fnn.Periodic(2, 0.4, 1, "plr", features=1),
        fnn.Dropout(0.2),
        fnn.Dense(OUTPUTS),
    ],
    "ensemble": [
        fnn.Dense(WIDTH, "tanh"),
        fnn.BatchEnsemble(
            4,
            [
                fnn.Dense(6, "gelu", bias=False),
                fnn.Dropout(0.3),
                fnn.Dense(7, fnn.Activation("selu", parametric=True), l1=0.1, max_norm=0.7),
                fnn.Activation("tanh"),
                fnn.Heads(OUTPUTS, decay_factor=0.5),
            ],
            lr_factor=0.5,
        ),
    ],
    "ensemble with one scale": [
        fnn.Dropout(0.2),
        fnn.BatchEnsemble(
            3,
            [fnn.Dense(WIDTH, "relu"), fnn.Dropout(0.2), fnn.Dense(OUTPUTS, "sigmoid", l2=0.2)],
            scaling="first",
            decay_factor=0.0,
        ),
    ],
    "scaled": [
        fnn.Scale(lr_factor=6.0, decay_factor=2.0),
        fnn.Dense(WIDTH, "tanh", scaling="ntk", l1=0.1, l2=0.2),
        fnn.Residual([fnn.Scale(), fnn.Dense(WIDTH, "gelu", lr_factor=0.5)]),
        fnn.Dropout(0.2),
        fnn.Scale(),
        fnn.Dense(OUTPUTS, scaling="ntk", decay_factor=0.0, bias_lr_factor=0.1, max_norm=0.7),
    ],
    "wide": [
        fnn.Dense(37, "relu"),
        fnn.BatchNorm(),
        fnn.Dropout(0.5),
        fnn.Dense(41, "gelu"),
        fnn.LayerNorm(),
        fnn.Dense(OUTPUTS),
    ],
}
# Everything at once. There is no bias before BatchNorm: its gradient would consist of rounding
# errors.
EVERYTHING = [
    fnn.Dense(7, bias=False, max_norm=1.5, l2=0.01),
    fnn.BatchNorm(),
    fnn.Activation("tanh"),
    fnn.Dropout(0.2),
    fnn.Residual(
        [fnn.LayerNorm(), fnn.Dense(7, "gelu", l1=0.001), fnn.GaussianNoise(0.1), fnn.Dense(7)],
        activation="softplus",
    ),
    fnn.Scale(lr_factor=2.0),
    fnn.Dense(6, fnn.Activation("selu", parametric=True, lr_factor=0.1), scaling="ntk"),
    fnn.Dense(OUTPUTS, decay_factor=0.5),
]


def network(layers, loss="quadratic", backend="numpy", dtype="float64", inputs=INPUTS, seed=7):
    """A network with perturbed parameters and running statistics, the same on every engine."""
    net = fnn.Network(layers, inputs, loss, dtype, backend, seed)
    rng = np.random.default_rng(seed)
    for name, values in net.parameters.items():
        net.parameters[name] = values + 0.1 * rng.normal(size=values.shape)
    for name, values in net.buffers.items():
        if name.endswith(("first_rows", "bins")):  # which are no statistics
            continue
        net.buffers[name] = values + 0.1 * rng.uniform(size=values.shape)
    return net


# Each optimiser that steps once a mini-batch, and SGD's variants → (class, constants).
STEPPING = {
    name: (kind, {}) for name, kind in OPTIMIZERS.items() if issubclass(kind, Optimizer)
} | {
    "momentum": (fnn.SGD, {"momentum": 0.9}),
    "nesterov": (fnn.SGD, {"momentum": 0.9, "nesterov": True}),
}


def optimizer(name, **options):
    kind, constants = STEPPING[name]
    return kind(**constants, **options)


# --- comparing ------------------------------------------------------------------------------------


def flat(arrays):
    """The arrays of a mapping as one float64 vector."""
    return np.concatenate([np.ravel(array) for array in arrays.values()]).astype(np.float64)


def relative_error(found, expected):
    """‖found − expected‖ / ‖expected‖ over all arrays of two mappings."""
    found, expected = flat(found), flat(expected)
    return float(
        np.linalg.norm(found - expected) / max(np.linalg.norm(expected), np.finfo(float).tiny)
    )


def learnt(net):
    """All that training changed, by name."""
    slots = {f"slot {k}": slot for k, slot in enumerate(net.state.slots)}
    return {**net.parameters, **net.buffers, **slots, "mu_product": net.state.mu_product}


def assert_same_bits(a, b):
    """Two networks hold the same numbers, down to the last bit."""
    assert (a.state.step, a.state.optimizer_step, a.epochs) == (
        b.state.step,
        b.state.optimizer_step,
        b.epochs,
    )
    for (name, left), right in zip(learnt(a).items(), learnt(b).values(), strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


# --- surroundings ---------------------------------------------------------------------------------


def in_threads(*calls):
    """What these calls return, each in a thread of its own, all at once."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(120) for future in [pool.submit(call) for call in calls]]


@contextlib.contextmanager
def empty_cache(cache, tmp_path, monkeypatch):
    """An empty folder for compiled kernels.

    The cache module computes its environment again before and after.
    """
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    cache.environment.cache_clear()
    yield tmp_path / "cache"
    cache.environment.cache_clear()
