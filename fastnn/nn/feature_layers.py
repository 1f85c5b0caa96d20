"""Layers for the columns of a table: factors, vectors for codes, encodings of numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn._utils import checks
from fastnn.data.validation import as_numbers
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


class PiecewiseLinear(Layer):
    """The piecewise-linear encoding of numbers, and a learnt map of it (Gorishniy et al. 2022).

    The range of a number x is cut into T bins with edges e₀ < e₁ < … < e_T. Its encoding has
    a component for each bin, vₜ = (x − eₜ₋₁)/(eₜ − eₜ₋₁), which is cut to [0, 1]: 1 for the bins
    below x, 0 for those above. The first is not cut from below and the last not from above. Each
    number then has a map of its own, y = x a + v W + b of ``size`` numbers, in which W starts at
    zero. This is version "B" of the authors' package.

    Parameters
    ----------
    bins : int or sequence of arrays
        T, for edges at the quantiles of the first data that the network is fitted to; or the edges
        of each number.
    size : int
        Numbers that each number becomes.
    features : int, optional
        How many leading columns are numbers; by default all. The others pass through behind.
    lr_factor, decay_factor : float
        Factors of the learning rate and of the optimiser's ``weight_decay`` for the maps.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.
    """

    def __init__(
        self,
        bins: Any = 48,
        size: int = 16,
        features: int | None = None,
        lr_factor: float = 1.0,
        decay_factor: float = 0.0,
    ):
        self.bins: int | list[list[float]] = _checked_bins(bins)
        self.size: int = checks.integer("size", size)
        self.features: int | None = _checked_features(features)
        if isinstance(self.bins, list) and self.features is None:
            self.features = len(self.bins)
        if isinstance(self.bins, list) and self.features != len(self.bins):
            raise ValueError(
                f"bins has edges for {len(self.bins)} numbers, but features is {self.features}"
            )
        self.lr_factor: float = checks.number("lr_factor", lr_factor)
        self.decay_factor: float = checks.number("decay_factor", decay_factor)

    @property
    def most_bins(self) -> int:
        """T, of the number with the most bins."""
        if isinstance(self.bins, int):
            return self.bins
        return max(len(edges) - 1 for edges in self.bins)

    def table(self) -> Any:
        """What the engines read of the edges; 0, no bins at all, until data have been seen."""
        return 0.0 if isinstance(self.bins, int) else edge_table(self.bins, self.most_bins)


class Periodic(Layer):
    """Cosines of numbers at learnt frequencies, and a learnt map of them (Gorishniy et al. 2022).

    Each number x has K frequencies w of its own, and its waves v become y = v W + b, ``size``
    numbers. With ``kind="pbld"`` (Holzmüller et al. 2024) they are v = cos(2π x w + p) of learnt
    phases p, and all of x follows behind: a number becomes ``size`` + 1 columns. With
    ``kind="plr"`` they are v = [cos 2π x w, sin 2π x w], and y goes through a ReLU; only columns
    that are no numbers follow.

    At the start w ~ N(0, sigma²), for "plr" drawn again beyond 3 sigma; p ~ U(±π), and W and b ~
    U(±1/√m) for m waves.

    Parameters
    ----------
    frequencies : int
        K, of each number.
    sigma : float
        Standard deviation of the frequencies at the start, in periods per unit of x; positive. It
        matters much, and depends on the scale of x.
    size : int
        Numbers that the map makes of each number.
    kind : "pbld" or "plr"
        RealMLP's form, or the first one. `rtdl_num_embeddings.PeriodicEmbeddings` of Gorishniy
        et al. is ``Periodic(48, 0.01, 24, "plr")``.
    shared : bool
        Whether all numbers share one W and b ("lite").
    features : int, optional
        How many leading columns are numbers; by default all.
    lr_factor, decay_factor : float
        Factors of the learning rate and of the optimiser's ``weight_decay`` for all arrays of the
        layer, biases too. The decay of a step is the product of rate, decay and both factors.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.
    """

    def __init__(
        self,
        frequencies: int = 16,
        sigma: float = 0.1,
        size: int = 3,
        kind: str = "pbld",
        shared: bool = False,
        features: int | None = None,
        lr_factor: float = 1.0,
        decay_factor: float = 0.0,
    ):
        self.frequencies: int = checks.integer("frequencies", frequencies)
        self.sigma: float = checks.number("sigma", sigma, low_open=True)
        self.size: int = checks.integer("size", size)
        self.kind: str = checks.one_of("kind", kind, ["pbld", "plr"])
        self.shared: bool = checks.boolean("shared", shared)
        self.features: int | None = _checked_features(features)
        self.lr_factor: float = checks.number("lr_factor", lr_factor)
        self.decay_factor: float = checks.number("decay_factor", decay_factor)


def edge_table(edges: Sequence[Any], bins: int) -> np.ndarray:
    """For each number how many bins it has, then their edges: (numbers, bins + 2)."""
    table = np.zeros((len(edges), bins + 2))
    for row, of_one in zip(table, edges, strict=True):
        row[0] = max(0, len(of_one) - 1)
        row[1 : 1 + len(of_one)] = of_one
    return table


def quantile_edges(X: np.ndarray, bins: int) -> list[np.ndarray]:
    """Edges of bins with equally many rows of each column of X (n, numbers), at most so many bins.

    A column of one value has no bins.
    """
    shares = np.linspace(0.0, 1.0, bins + 1)
    edges = [np.unique(np.quantile(column, shares).astype(X.dtype)) for column in X.T]
    return [of_one if len(of_one) > 1 else of_one[:0] for of_one in edges]


def _checked_features(features: Any) -> int | None:
    return None if features is None else checks.integer("features", features)


def _checked_bins(bins: Any) -> int | list[list[float]]:
    """A number of bins, or the edges of each number's as plain lists."""
    if isinstance(bins, int | np.integer):
        return checks.integer("bins", bins)
    if isinstance(bins, str) or not isinstance(bins, Sequence | np.ndarray) or not len(bins):
        raise TypeError(f"bins must be an integer or a list of arrays of edges, not {bins!r}")
    edges = [as_numbers(of_one, f"bins[{i}]").astype(np.float64) for i, of_one in enumerate(bins)]
    for i, of_one in enumerate(edges):
        with np.errstate(over="ignore"):
            rounded = of_one.astype(np.float32)  # in which they must differ, too
        if of_one.ndim != 1 or len(of_one) < 2 or not (np.diff(rounded) > 0).all():
            raise ValueError(f"bins[{i}] must be two or more edges, each above the one before")
        if not np.isfinite(rounded).all():
            raise ValueError(f"bins[{i}] has edges that are not finite in float32")
    return [of_one.tolist() for of_one in edges]
