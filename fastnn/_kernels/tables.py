"""One row for each activation, loss and optimiser: what every engine, layer and test knows of it.

From these rows come the codes of the op table, the validation of constants, the docstring tables,
the dispatch of the Numba, CUDA and Cython engines, and the cases of the tests. The formulas
themselves stand in ``reference.py``, ``scalars.py`` and ``cython_cpu/scalars.pxi``, written
independently of each other. ``CONTRIBUTING.md`` shows how to add a row.

Codes are consecutive from 0, in the order of the rows.
"""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Constant:
    """A constant of an activation or loss: its default, and the interval that it must lie in."""

    default: float
    low: float = 0.0
    high: float = math.inf
    low_open: bool = True
    high_open: bool = True


@dataclass(frozen=True, kw_only=True)
class ActivationRow:
    """An activation f.

    Attributes
    ----------
    code : int
        In the op table.
    formula : str
        f(z), as a NumPy expression of ``z`` and ``alpha``; ``Phi`` is the normal distribution.
        The tests evaluate it.
    constants : dict
        Name → `Constant`; at most one, ``alpha``.
    init : str
        The initialiser that ``init="auto"`` chooses for a layer that this activation follows.
    needs_z : bool
        Whether f′(z) does not follow from f(z) alone. The forward pass then stores it.
    saturation : (float, float), optional
        Bounds beyond which f(z) counts as saturated: the outer 5 % of its range on either side.
    kinks : tuple of float
        Where f′ jumps.
    source : str
        Where it comes from.
    """

    code: int
    formula: str
    constants: dict[str, Constant] = field(default_factory=dict)
    init: str = "glorot_uniform"
    needs_z: bool = False
    saturation: tuple[float, float] | None = None
    kinks: tuple[float, ...] = ()
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class LossRow:
    """A loss ℓ, a function of the raw output z of the last layer and the target t.

    Attributes
    ----------
    code : int
        In the loss record.
    formula : str
        ℓ of one sample with k outputs, for the docstring table.
    link : str
        What ``predict`` applies to the raw output: identity, softmax, sigmoid, exp or sort.
    constants : dict
        Name → `Constant`; at most one.
    classifies : bool
        Whether targets stand for classes: ``evaluate`` reports accuracy, not R².
    elementwise : bool
        Whether ℓ is a sum or mean of terms that each depend on one output.
    mean : bool
        Whether an elementwise loss is the mean over outputs, not their sum.
    levels : tuple of float
        Default levels of a loss that has one for each output; empty for the others.
    source : str
        Where it comes from.
    """

    code: int
    formula: str
    link: str = "identity"
    constants: dict[str, Constant] = field(default_factory=dict)
    classifies: bool = False
    elementwise: bool = True
    mean: bool = True
    levels: tuple[float, ...] = ()
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class OptimizerRow:
    """An optimiser. Its public class in `fastnn.optim` has its constants and its formula.

    Attributes
    ----------
    code : int
        In the optimiser record.
    n_slots : int
        Vectors of θ's length that it remembers.
    bias_correction : bool
        Whether it divides its moments by 1 − βᵗ.
    decoupled_decay : bool
        Whether weight decay shrinks the weight itself instead of entering the gradient.
    """

    code: int
    n_slots: int
    bias_correction: bool = False
    decoupled_decay: bool = False


_HE, _LECUN = "he_normal", "lecun_normal"
_LOGISTIC, _SYMMETRIC = (0.05, 0.95), (-0.9, 0.9)

ACTIVATIONS: dict[str, ActivationRow] = {
    "linear": ActivationRow(code=0, formula="z"),
    "sigmoid": ActivationRow(code=1, formula="1 / (1 + exp(-z))", saturation=_LOGISTIC),
    "tanh": ActivationRow(code=2, formula="tanh(z)", saturation=_SYMMETRIC),
    "relu": ActivationRow(
        code=3,
        formula="maximum(z, 0)",
        init=_HE,
        kinks=(0,),
        source="Nair & Hinton 2010",
    ),
    "leaky_relu": ActivationRow(
        code=4,
        formula="where(z > 0, z, alpha * z)",
        constants={"alpha": Constant(0.01, high=1.0)},
        init=_HE,
        kinks=(0,),
        source="Maas, Hannun & Ng 2013",
    ),
    "elu": ActivationRow(
        code=5,
        formula="where(z > 0, z, alpha * expm1(minimum(z, 0)))",
        constants={"alpha": Constant(1.0)},
        init=_HE,
        kinks=(0,),
        source="Clevert, Unterthiner & Hochreiter 2016",
    ),
    "selu": ActivationRow(
        code=6,
        formula="where(z > 0, 1.0507009873554805 * z, 1.7580993408473766 * expm1(minimum(z, 0)))",
        init=_LECUN,
        kinks=(0,),
        source="Klambauer et al. 2017",
    ),
    "gelu": ActivationRow(
        code=7,
        formula="z * Phi(z)",
        init=_HE,
        needs_z=True,
        source="Hendrycks & Gimpel 2016",
    ),
    "silu": ActivationRow(
        code=8,
        formula="z / (1 + exp(-z))",
        init=_HE,
        needs_z=True,
        source="Elfwing, Uchibe & Doya 2018",
    ),
    "mish": ActivationRow(
        code=9,
        formula="z * tanh(log1p(exp(z)))",
        init=_HE,
        needs_z=True,
        source="Misra 2020",
    ),
    "softplus": ActivationRow(
        code=10,
        formula="log1p(exp(z))",
        init=_HE,
        source="Dugas et al. 2001",
    ),
    "softsign": ActivationRow(
        code=11,
        formula="z / (1 + abs(z))",
        saturation=_SYMMETRIC,
        source="Bergstra et al. 2009",
    ),
    "hard_sigmoid": ActivationRow(
        code=12,
        formula="clip(z / 6 + 1 / 2, 0, 1)",
        saturation=_LOGISTIC,
        kinks=(-3, 3),
        source="Howard et al. 2019",
    ),
    "hard_tanh": ActivationRow(
        code=13,
        formula="clip(z, -1, 1)",
        saturation=_SYMMETRIC,
        kinks=(-1, 1),
        source="Collobert 2004",
    ),
}

_SMOOTHING = {"label_smoothing": Constant(0.0, high=1.0, low_open=False)}

LOSSES: dict[str, LossRow] = {
    "softmax_cross_entropy": LossRow(
        code=0,
        formula="−Σⱼ tⱼ log softmax(z)ⱼ",
        link="softmax",
        constants=_SMOOTHING,
        classifies=True,
        elementwise=False,
    ),
    "binary_cross_entropy": LossRow(
        code=1,
        formula="−Σⱼ tⱼ log σ(zⱼ) + (1 − tⱼ) log(1 − σ(zⱼ))",
        link="sigmoid",
        constants=_SMOOTHING,
        classifies=True,
        mean=False,
    ),
    "mse": LossRow(code=2, formula="(1/k) Σⱼ (zⱼ − tⱼ)²"),
    "quadratic": LossRow(code=3, formula="½ Σⱼ (zⱼ − tⱼ)²", mean=False),
    "mae": LossRow(code=4, formula="(1/k) Σⱼ |zⱼ − tⱼ|"),
    "huber": LossRow(
        code=5,
        formula="(1/k) Σⱼ ½d² where |d| < δ, else δ(|d| − δ/2)",
        constants={"delta": Constant(1.0)},
        source="Huber 1964",
    ),
    "poisson": LossRow(code=6, formula="(1/k) Σⱼ exp(zⱼ) − tⱼ zⱼ", link="exp"),
    "quantile": LossRow(
        code=7,
        formula="(1/k) Σⱼ max(τⱼ (t − zⱼ), (τⱼ − 1)(t − zⱼ))",
        link="sort",
        levels=(0.1, 0.5, 0.9),
        source="Koenker & Bassett 1978",
    ),
}

OPTIMIZERS: dict[str, OptimizerRow] = {
    "sgd": OptimizerRow(code=0, n_slots=1),
    "adagrad": OptimizerRow(code=1, n_slots=1),
    "adadelta": OptimizerRow(code=2, n_slots=2),
    "rmsprop": OptimizerRow(code=3, n_slots=1),
    "adam": OptimizerRow(code=4, n_slots=2, bias_correction=True),
    "adamw": OptimizerRow(code=5, n_slots=2, bias_correction=True, decoupled_decay=True),
    "nadam": OptimizerRow(code=6, n_slots=2, bias_correction=True),
}
