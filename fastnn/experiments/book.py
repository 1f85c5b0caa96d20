"""Nielsen's book: the networks of chapter 5, and the figures that its program made."""

import json
from pathlib import Path

import numpy as np

from fastnn.models import mlp
from fastnn.network import Network

BOOK = "Nielsen, chapter 5"
_FOLDER = Path(__file__).parents[1] / "_data" / "nielsen"


def network(hidden_layers: int, seed: int, l2: float = 0.0) -> Network:
    """A network [784, 30, …, 30, 10] of sigmoids, with cross-entropy.

    Weights are drawn from N(0, 1/n_in), biases from N(0, 1).

    Parameters
    ----------
    hidden_layers : int
    seed : int
    l2 : float
        The book's λ/n.
    """
    sizes = [784, *[30] * hidden_layers, 10]
    return mlp(
        sizes,
        activation="sigmoid",
        output="sigmoid",
        init="nielsen",
        loss="binary_cross_entropy",
        l2=l2,
        seed=seed,
    )


def figures(name: str) -> np.ndarray:
    """Figures that the book's program made, rounded to six digits.

    Parameters
    ----------
    name : str
        "initial_gradient": ∂C/∂b of six neurons of each hidden layer of [784, 30, 30, 10], (2, 6);
        "norms_during_training_2_layers", likewise 3 and 4: learning speeds before each epoch, (500
        epochs, hidden layers).
    """
    return np.array(json.loads((_FOLDER / f"{name}.json").read_bytes()))
