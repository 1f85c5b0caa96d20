"""Data, networks and checks that tests of model files share."""

import numpy as np
from network_cases import raises as raises

import fastnn as fnn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4))
VALUES = np.abs(RNG.normal(size=(20, 3)))
VALUES /= VALUES.sum(axis=1, keepdims=True)  # targets for every loss

STACKS = {
    "dense": [fnn.Dense(3, "sigmoid", init="nielsen", bias_init="standard_normal")],
    "dense, all options": [
        fnn.Dense(
            3,
            fnn.Activation("elu", alpha=0.5),
            fnn.Initializer("normal", std=0.3),
            False,
            l1=0.1,
            l2=0.2,
            max_norm=3,
        )
    ],
    "array": [fnn.Dense(3, init=np.ones((4, 3)), bias_init=[1, 2, 3])],
    "activation": [fnn.Dense(3), fnn.Activation("leaky_relu", alpha=0.2)],
    "batch norm": [fnn.BatchNorm(0.3, 1e-3), fnn.Dense(3)],
    "layer norm": [fnn.LayerNorm(1e-3), fnn.Dense(3)],
    "dropout": [fnn.Dropout(0.25), fnn.Dense(3)],
    "noise": [fnn.GaussianNoise(0.25), fnn.Dense(3)],
    "residual": [
        fnn.Residual(
            [fnn.Dense(5), fnn.Residual([fnn.BatchNorm(), fnn.Dense(3)], "tanh", projection=True)]
        ),
        fnn.Dense(3),
    ],
}


def network(layers=None, loss="mse", **options):
    return fnn.Network(
        layers or [fnn.Dense(3)], 4, loss, **{"dtype": "float64", "backend": "numpy", **options}
    )


def assert_same_state(a, b):
    for name in ("theta", "buffers", "slots", "mu_product"):
        np.testing.assert_array_equal(getattr(a.state, name), getattr(b.state, name), err_msg=name)
    for name in ("seed", "step", "optimizer_step"):
        assert getattr(a.state, name) == getattr(b.state, name)
    assert (a.epochs, a.optimizer_kind, a.metadata) == (b.epochs, b.optimizer_kind, b.metadata)
