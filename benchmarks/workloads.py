"""The networks that the programs of this folder measure."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from fastnn.nn.layers import Activation, BatchNorm, Dense, Dropout, Layer, Residual


@dataclass(frozen=True)
class Workload:
    """A network, how it is trained, and the mini-batches of an epoch of random data.

    Attributes
    ----------
    layers : tuple of Layer
        fastnn's layers; baselines translate them.
    optimizer : {"sgd", "momentum", "adam"}
        SGD(0.1), SGD(0.01, momentum=0.9) or Adam(1e-3).
    """

    name: str
    inputs: int
    layers: tuple[Layer, ...]
    optimizer: str
    batch_size: int
    steps: int

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Features (steps · batch size, inputs), float32 in [0, 1), and labels."""
        rng = np.random.default_rng(0)
        X = rng.random((self.steps * self.batch_size, self.inputs), dtype=np.float32)
        return X, rng.integers(0, self.layers[-1].units, len(X))


def mlp(*widths: int, activation: str) -> tuple[Layer, ...]:
    """Dense layers of these widths; the last one is linear."""
    return (*(Dense(n, activation=activation) for n in widths[:-1]), Dense(widths[-1]))


def _normalised(width: int) -> tuple[Layer, ...]:
    return (Dense(width), BatchNorm(), Activation("relu"), Dropout(0.3))


def _block(width: int) -> Layer:
    return Residual([Dense(width, activation="relu"), Dense(width)], activation="relu")


WORKLOADS = (
    Workload(
        "784-30-10 sigmoid, SGD, batch 10", 784, mlp(30, 10, activation="sigmoid"), "sgd", 10, 2000
    ),
    Workload(
        "784-30-30-30-30-10 sigmoid, SGD, batch 10",
        784,
        mlp(30, 30, 30, 30, 10, activation="sigmoid"),
        "sgd",
        10,
        1000,
    ),
    Workload("16-16-2 ReLU, Adam, batch 32", 16, mlp(16, 2, activation="relu"), "adam", 32, 3000),
    Workload(
        "32-64-64-10 ReLU, Adam, batch 256",
        32,
        mlp(64, 64, 10, activation="relu"),
        "adam",
        256,
        300,
    ),
    Workload(
        "784-256-128-10 ReLU, Adam, batch 128",
        784,
        mlp(256, 128, 10, activation="relu"),
        "adam",
        128,
        150,
    ),
    Workload(
        "784-1024-1024-10 ReLU, Adam, batch 256",
        784,
        mlp(1024, 1024, 10, activation="relu"),
        "adam",
        256,
        15,
    ),
    Workload(
        "784, fifty of 64, 10 ReLU, Adam, batch 128",
        784,
        mlp(*[64] * 50, 10, activation="relu"),
        "adam",
        128,
        40,
    ),
    Workload(
        "784-300-300-10 BatchNorm, dropout, Adam, batch 128",
        784,
        (*_normalised(300), *_normalised(300), Dense(10)),
        "adam",
        128,
        100,
    ),
    Workload(
        "64, twenty blocks of 96, 10 residual, Adam, batch 128",
        64,
        (Dense(96), *[_block(96)] * 20, Dense(10)),
        "adam",
        128,
        40,
    ),
    Workload(
        "117-83-61-7 ReLU, Adam, batch 37", 117, mlp(83, 61, 7, activation="relu"), "adam", 37, 1000
    ),
    Workload(
        "100-100-100-10 ReLU, momentum, batch 64",
        100,
        mlp(100, 100, 10, activation="relu"),
        "momentum",
        64,
        500,
    ),
    Workload(
        "64-128-128-10 tanh, Adam, batch 128",
        64,
        mlp(128, 128, 10, activation="tanh"),
        "adam",
        128,
        300,
    ),
    Workload(
        "128-256-256-10 GELU, Adam, batch 128",
        128,
        mlp(256, 256, 10, activation="gelu"),
        "adam",
        128,
        150,
    ),
)


def _on_gpu(number: int, steps: int) -> Workload:
    return dataclasses.replace(WORKLOADS[number], steps=steps)


# Networks of the comparison on a GPU. Epochs are longer, so that starting one does not count. Steps
# are a multiple of ten.
GPU_WORKLOADS = (
    _on_gpu(0, 3000),
    _on_gpu(2, 3000),
    _on_gpu(3, 1000),
    _on_gpu(4, 400),
    _on_gpu(5, 200),
    _on_gpu(6, 200),
    Workload(
        "784-4096-4096-10 ReLU, Adam, batch 4096",
        784,
        mlp(4096, 4096, 10, activation="relu"),
        "adam",
        4096,
        20,
    ),
)
