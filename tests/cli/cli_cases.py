"""Data, models and helpers that tests of the command line share."""

import json

import numpy as np

import fastnn as fnn

RNG = np.random.default_rng(0)
ROWS = 120
SIZE, KIND = RNG.normal(size=ROWS).round(3), RNG.choice(["a", "b", "c"], ROWS)
FLAG, AGE = RNG.random(ROWS) > 0.5, RNG.integers(0, 90, ROWS)
LABEL = np.where(SIZE + (KIND == "b") > 0.5, "yes", "no")
PRICE = (100 + 30 * SIZE + 10 * FLAG).round(2)
COLUMNS = {"size": SIZE, "kind": KIND, "age": AGE, "flag": FLAG}
SMALL = ("--backend", "numpy", "--layers", "8", "--batch-size", "8")


def read(path):
    with open(path) as file:
        return json.load(file)


def npz(path="d.npz", **arrays):
    np.savez(path, **arrays)
    return path


def save(path="plain.fastnn", outputs=3, loss="softmax_cross_entropy", inputs=2):
    net = fnn.Network([fnn.Dense(outputs)], inputs, loss, backend="numpy")
    net.save(path)
    return net
