"""Initialisers: the values with which weights and biases start.

Numbers come from the counter-based generator, keyed by the network's seed and the number of the
array, in float64 and then rounded. The same seed gives the same weights on every engine and, up to
rounding, in both dtypes.

To add one: a function here and a line in ``INITIALIZERS``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn._kernels import opcodes, philox
from fastnn._utils import checks
from fastnn._utils.calls import named_call
from fastnn.data.validation import as_numbers

Shape = tuple[int, ...]  # of a weight (n_in, n_out), or of several: (…, n_in, n_out)


class Draw:
    """Random numbers of one parameter array, always the same ones."""

    def __init__(self, seed: int, array: int):
        self._seed, self._stream = seed, opcodes.STREAM_INIT + array

    def uniform(self, n: int) -> np.ndarray:
        """n numbers, uniform on (0, 1)."""
        return philox.uniform(self._seed, self._stream, 0, n)

    def normal(self, n: int) -> np.ndarray:
        """n numbers from N(0, 1)."""
        return philox.normal(self._seed, self._stream, 0, n)


def _zeros(shape: Shape, draw: Draw) -> np.ndarray:
    return np.zeros(shape)


def _normal(shape: Shape, draw: Draw, std: float = 0.01) -> np.ndarray:
    return std * draw.normal(int(np.prod(shape))).reshape(shape)


def _standard_normal(shape: Shape, draw: Draw) -> np.ndarray:
    return _normal(shape, draw, 1.0)


def _variance(
    variance_of: Callable[[int, int], float], uniform: bool
) -> Callable[[Shape, Draw], np.ndarray]:
    """An initialiser of variance s = ``variance_of(n_in, n_out)``: N(0, s) or U(−√3s, √3s)."""

    def initialise(shape: Shape, draw: Draw) -> np.ndarray:
        n_in, n_out = (1, *shape)[-2:]  # a bias has one input
        std, n = np.sqrt(variance_of(n_in, n_out)), int(np.prod(shape))
        values = np.sqrt(3.0) * (2.0 * draw.uniform(n) - 1.0) if uniform else draw.normal(n)
        return (std * values).reshape(shape)

    return initialise


def _orthogonal(shape: Shape, draw: Draw) -> np.ndarray:
    n_in, n_out = (1, *shape)[-2:]  # a bias has one input
    tall = draw.normal(int(np.prod(shape))).reshape(-1, max(n_in, n_out), min(n_in, n_out))
    q, r = np.linalg.qr(tall)
    # This makes the distribution uniform over orthogonal matrices (Mezzadri 2007).
    q = q * np.where(np.diagonal(r, axis1=1, axis2=2) < 0, -1.0, 1.0)[:, None]
    return (q if n_in >= n_out else np.swapaxes(q, 1, 2)).reshape(shape)


INITIALIZERS: dict[str, Callable[..., np.ndarray]] = {
    "zeros": _zeros,
    "normal": _normal,
    "standard_normal": _standard_normal,
    "nielsen": _variance(lambda n_in, n_out: 1.0 / n_in, uniform=False),
    "glorot_uniform": _variance(lambda n_in, n_out: 2.0 / (n_in + n_out), uniform=True),
    "glorot_normal": _variance(lambda n_in, n_out: 2.0 / (n_in + n_out), uniform=False),
    "he_uniform": _variance(lambda n_in, n_out: 2.0 / n_in, uniform=True),
    "he_normal": _variance(lambda n_in, n_out: 2.0 / n_in, uniform=False),
    "lecun_uniform": _variance(lambda n_in, n_out: 1.0 / n_in, uniform=True),
    "lecun_normal": _variance(lambda n_in, n_out: 1.0 / n_in, uniform=False),
    "fan_in_uniform": _variance(lambda n_in, n_out: 1.0 / (3.0 * n_in), uniform=True),
    "orthogonal": _orthogonal,
}


# Completed by the first data that a network is fitted to: see `fastnn.training.data_init`.
DATA_WEIGHT, DATA_BIAS = "data", "he+5"


class Initializer:
    """An initialiser with its constants, for ``Dense(init=…)``.

    A plain name stands for the default constants.

    ===============  ===============================  ========================================
    name             distribution of a weight         source
    ===============  ===============================  ========================================
    zeros            0                                keeps hidden units identical for ever
    normal           N(0, std²), std = 0.01           Ng
    standard_normal  N(0, 1)                          Nielsen's "large" one
    nielsen          N(0, 1/n_in)                     Nielsen, chapter 3
    glorot_normal    N(0, 2/(n_in + n_out))           Glorot & Bengio 2010
    glorot_uniform   U(±√(6/(n_in + n_out)))          Glorot & Bengio 2010
    he_normal        N(0, 2/n_in)                     He et al. 2015
    he_uniform       U(±√(6/n_in))                    He et al. 2015
    lecun_normal     N(0, 1/n_in)                     LeCun et al. 1998; Klambauer et al. 2017
    lecun_uniform    U(±√(3/n_in))                    LeCun et al. 1998
    fan_in_uniform   U(±1/√n_in), of a bias too       PyTorch's linear layer
    orthogonal       uniform, of orthonormal columns  Saxe et al. 2014
    auto             He, LeCun or Glorot              chosen by the layer's activation
    data             x W has variance 1 in each unit  Holzmüller et al. 2024
    he+5             zeros of x W + b among the data  Holzmüller et al. 2024; a bias
    ===============  ===============================  ========================================

    "auto" takes He for ReLU and the activations like it, LeCun for SELU, and Glorot otherwise.

    "data" and "he+5" are completed by the first data that the network is fitted to, layer by layer,
    from up to 16,384 of the rows to train on, as the layers before put them out in prediction. With
    "data" a column of W, drawn from N(0, 1), is divided by the standard deviation of its unit's
    x W (or x W/√n_in), where that is not 0. With "he+5" a unit's bias is minus a mean of its x W in
    five random rows, with random weights that are uniform on the simplex. Until then W is that of
    lecun_normal, or N(0, 1) with NTK scaling, and b is 0. Numbers set by hand stay as they are.

    Parameters
    ----------
    name : str
        A name of the table.
    **constants : float
        ``std`` of "normal".
    """

    def __init__(self, name: str, **constants: float):
        known = [*INITIALIZERS, "auto", DATA_WEIGHT, DATA_BIAS]
        self.name: str = checks.one_of("init", name, known)
        checks.constants(f"init {name!r}", constants, ["std"] if name == "normal" else [])
        self.constants: dict[str, float] = {
            key: checks.number(key, value) for key, value in constants.items()
        }

    def is_default(self) -> bool:
        """Whether the constants are the initialiser's defaults."""
        return not self.constants

    def __repr__(self) -> str:
        return named_call("Initializer", self.name, self.constants)

    def to_config(self) -> dict[str, Any]:
        """Name and constants as plain data for a model file."""
        return {"name": self.name, **self.constants}

    def __call__(self, name: str, shape: Shape, draw: Draw) -> np.ndarray:
        """The float64 starting values of parameter array ``name``."""
        return INITIALIZERS[self.name](shape, draw, **self.constants)


class ArrayInitializer:
    """Starting values given as an array. A model file holds the trained values instead."""

    def __init__(self, values: Any):
        self.values: np.ndarray = as_numbers(values, "init").astype(np.float64)
        if not np.all(np.isfinite(self.values)):
            raise ValueError("init is an array with values that are not finite")

    def __repr__(self) -> str:
        return f"array{self.values.shape}"

    def to_config(self) -> dict[str, Any]:
        """The initialiser as plain data for a model file, without the values."""
        return {"name": "array"}

    def __call__(self, name: str, shape: Shape, draw: Draw) -> np.ndarray:
        """The values, which must have the shape of parameter array ``name``."""
        if self.values.shape != shape:
            raise ValueError(
                f"init of {name} has shape {self.values.shape}, but the layer needs {shape}"
            )
        return self.values


class Uniform:
    """U(−bound, bound)."""

    def __init__(self, bound: float):
        self.bound: float = bound

    def __call__(self, name: str, shape: Shape, draw: Draw) -> np.ndarray:
        n = int(np.prod(shape))
        return self.bound * (2.0 * draw.uniform(n) - 1.0).reshape(shape)


class TruncatedNormal:
    """N(0, std²), drawn again as long as it is beyond ±3 std."""

    def __init__(self, std: float):
        self.std: float = std

    def __call__(self, name: str, shape: Shape, draw: Draw) -> np.ndarray:
        n = int(np.prod(shape))
        drawn = draw.normal(n + n // 16 + 64)  # 1 in 370 is beyond
        kept = drawn[np.abs(drawn) <= 3.0]
        return self.std * kept[:n].reshape(shape)


def of_bias(init: Any, n_in: int) -> Any:
    """The initialiser of a bias behind n_in inputs, of which its shape does not tell."""
    by_fan_in = isinstance(init, Initializer) and init.name == "fan_in_uniform"
    return Uniform(1.0 / np.sqrt(n_in)) if by_fan_in else init


def ones(name: str, shape: Shape, draw: Draw) -> np.ndarray:
    """The initialiser of scales."""
    return np.ones(shape)


class OnlyLastRow:
    """Zeros but for the last row of each matrix of (…, rows, columns), which another one draws."""

    def __init__(self, last: Uniform):
        self.last: Uniform = last

    def __call__(self, name: str, shape: Shape, draw: Draw) -> np.ndarray:
        values = np.zeros(shape)
        values[..., -1, :] = self.last(name, (*shape[:-2], shape[-1]), draw)
        return values


class FromData:
    """Starts as another initialiser; the first data that a network is fitted to complete it."""

    def __init__(self, start: str):
        self.start: Initializer = Initializer(start)

    def __call__(self, name: str, shape: Shape, draw: Draw) -> np.ndarray:
        return self.start(name, shape, draw)


class FirstScale:
    """The initialiser of the first r, (members, columns): one draw a member and group."""

    def __init__(self, start: str, groups: Sequence[int] | None):
        self.start: str = start
        self.groups: Sequence[int] | None = groups

    def __call__(self, name: str, shape: Shape, draw: Draw) -> np.ndarray:
        members, width = shape
        groups = [1] * width if self.groups is None else self.groups
        n = members * len(groups)
        drawn = draw.normal(n) if self.start == "normal" else np.sign(draw.uniform(n) - 0.5)
        return np.repeat(drawn.reshape(members, -1), groups, axis=1)


class SameForAll:
    """An initialiser (members, …) that draws once and gives each member the same numbers."""

    def __init__(self, init: Any):
        self.init: Any = init

    def __call__(self, name: str, shape: Shape, draw: Draw) -> np.ndarray:
        return np.broadcast_to(self.init(name, shape[1:], draw), shape)


class OfMembers:
    """An initialiser of biases (members, units), each of which starts as one of a long bias."""

    def __init__(self, init: Any):
        self.init: Any = init

    def __call__(self, name: str, shape: Shape, draw: Draw) -> np.ndarray:
        if isinstance(self.init, ArrayInitializer):
            return self.init(name, shape, draw)
        return self.init(name, (int(np.prod(shape)),), draw).reshape(shape)


def as_initializer(init: Any) -> Initializer | ArrayInitializer:
    """An initialiser from a name, an `Initializer` or an array."""
    if isinstance(init, Initializer | ArrayInitializer):
        return init
    return Initializer(init) if isinstance(init, str) else ArrayInitializer(init)


def explicit_initializer(name: str, init: Any, *others: str) -> Initializer | ArrayInitializer:
    """The same for argument ``name``: one of `INITIALIZERS`, an array, or one of ``others``."""
    initializer, known = as_initializer(init), [*INITIALIZERS, *others]
    given = initializer.to_config()["name"]
    if given not in (*known, "array"):
        raise ValueError(f"{name} cannot be {given!r}; known: {', '.join(known)}, or an array")
    return initializer
