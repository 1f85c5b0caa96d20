"""Layers for the columns of a table: a factor for each, and vectors for codes of categories."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn._utils import checks
from fastnn.nn.initializers import ArrayInitializer, Initializer, explicit_initializer
from fastnn.nn.layer import Layer

_MOST_ROWS = 1 << 24  # of all tables: float32 holds every whole number up to it


class Scale(Layer):
    """A learnt factor for each column: y = scale ⊙ x, with scale starting at 1.

    Parameters
    ----------
    lr_factor, decay_factor : float
        Factors of the learning rate and of the optimiser's ``weight_decay`` for these numbers.
    """

    def __init__(self, lr_factor: float = 1.0, decay_factor: float = 0.0):
        self.lr_factor: float = checks.number("lr_factor", lr_factor)
        self.decay_factor: float = checks.number("decay_factor", decay_factor)


class Embedding(Layer):
    """A learnt vector for each category (Guo & Berkhahn 2016), as the first layer.

    The last columns of x hold codes, whole numbers from 0 on, one column for each entry of
    ``cardinalities``. Each code is replaced by its row of a table: y = [x without its codes,
    E₁[code₁], E₂[code₂], …].

    Parameters
    ----------
    cardinalities : sequence of int
        The number of different codes of each column.
    size : int
        Numbers in a row of a table.
    init : str, Initializer or array
        How the tables start; as one array they are (Σ cardinalities, size).
    lr_factor, decay_factor : float
        Factors of the learning rate and of the optimiser's ``weight_decay`` for the tables.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.
    """

    def __init__(
        self,
        cardinalities: Sequence[int],
        size: int = 8,
        init: Any = "standard_normal",
        lr_factor: float = 1.0,
        decay_factor: float = 1.0,
    ):
        if isinstance(cardinalities, str) or not isinstance(cardinalities, Sequence | np.ndarray):
            raise TypeError(f"cardinalities must be a list of integers, not {cardinalities!r}")
        self.cardinalities: list[int] = [
            checks.integer(f"cardinalities[{i}]", n) for i, n in enumerate(cardinalities)
        ]
        if not self.cardinalities:
            raise ValueError("cardinalities must name at least one column of codes")
        if sum(self.cardinalities) > _MOST_ROWS:
            raise ValueError(
                f"cardinalities add up to {sum(self.cardinalities):,}; "
                f"expected at most {_MOST_ROWS:,}"
            )
        self.size: int = checks.integer("size", size)
        self.init: Initializer | ArrayInitializer = explicit_initializer("init", init)
        self.lr_factor: float = checks.number("lr_factor", lr_factor)
        self.decay_factor: float = checks.number("decay_factor", decay_factor)
