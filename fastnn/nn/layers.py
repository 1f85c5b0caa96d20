"""Layers: descriptions only.

`fastnn.nn.lowering` turns them into operations, and `fastnn._kernels` does the arithmetic. Rows are
samples: a layer takes x of shape (batch, n_in) and gives y of shape (batch, n_out).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastnn._utils import checks
from fastnn.nn.activations import ACTIVATIONS
from fastnn.nn.feature_layers import Embedding, Periodic, PiecewiseLinear, Scale
from fastnn.nn.initializers import (
    DATA_BIAS,
    DATA_WEIGHT,
    ArrayInitializer,
    FromData,
    Initializer,
    explicit_initializer,
)
from fastnn.nn.layer import Activation, Layer, as_activation
from fastnn.optim.schedules import Schedule, schedule_from_config

SCALINGS = ("standard", "ntk")
MEMBER_SCALINGS = ("all", "first")
STARTS = ("signs", "normal")
_MOST_MEMBERS = 4096  # more than any ensemble that was published, by far
# Left out of a model file where it is the default: versions that do not know it read the file.
_LATER = {"scaling": "standard", "lr_factor": 1.0, "decay_factor": 1.0, "bias_lr_factor": 1.0}


class Dense(Layer):
    """A fully connected layer: y = f(x W + b), W of shape (n_in, units), b of shape (units,).

    Parameters
    ----------
    units : int
        Width of the output.
    activation : str or Activation
        f.
    init : str, Initializer or array
        How W starts: see `Initializer`. "auto" goes by the activation, or by the next `Activation`
        layer where there is none here; "data" by the first data that the network is fitted to.
    bias : bool
        Whether there is a b.
    bias_init : str, Initializer or array
        How b starts. Nielsen's book draws biases from N(0, 1): ``bias_init="standard_normal"``,
        which `mlp` sets for you with ``init="nielsen"`` and ``init="standard_normal"``. "he+5" goes
        by the first data, too.
    l1, l2 : float
        Penalties λ₁Σ|w| and ½λ₂Σw² over W, added to the loss.
    max_norm : float, optional
        After each step the incoming weights of a unit (a column of W) are scaled down to this
        Euclidean norm where they are longer (Srivastava et al. 2014).
    scaling : {"standard", "ntk"}
        "ntk": y = f(x W/√n_in + b), whose W starts with N(0, 1) where ``init`` is "auto" (Jacot,
        Gabriel & Hongler 2018).
    lr_factor, decay_factor : float
        Factors of the learning rate and of the optimiser's ``weight_decay`` for W.
    bias_lr_factor : float
        Factor of the learning rate for b.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.
    """

    # Parameters: each is part of the public contract, and all but the first have defaults.
    def __init__(
        self,
        units: int,
        activation: str | Activation = "linear",
        init: Any = "auto",
        bias: bool = True,
        bias_init: Any = "zeros",
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        scaling: str = "standard",
        lr_factor: float = 1.0,
        decay_factor: float = 1.0,
        bias_lr_factor: float = 1.0,
    ):
        self.units: int = checks.integer("units", units)
        self.activation: Activation = as_activation(activation)
        self.init: Initializer | ArrayInitializer = explicit_initializer(
            "init", init, "auto", DATA_WEIGHT
        )
        self.bias: bool = checks.boolean("bias", bias)
        self.bias_init: Initializer | ArrayInitializer = explicit_initializer(
            "bias_init", bias_init, DATA_BIAS
        )
        self.l1: float = checks.number("l1", l1)
        self.l2: float = checks.number("l2", l2)
        self.max_norm: float | None = None
        if max_norm is not None:
            self.max_norm = checks.number("max_norm", max_norm, low_open=True)
        self.scaling: str = checks.one_of("scaling", scaling, SCALINGS)
        self.lr_factor: float = checks.number("lr_factor", lr_factor)
        self.decay_factor: float = checks.number("decay_factor", decay_factor)
        self.bias_lr_factor: float = checks.number("bias_lr_factor", bias_lr_factor)

    def to_config(self) -> dict[str, Any]:
        """The layer as plain data for a model file, without what has its default value."""
        plain = super().to_config()
        return {k: v for k, v in plain.items() if k not in _LATER or v != _LATER[k]}


class BatchNorm(Layer):
    """Batch normalisation (Ioffe & Szegedy 2015).

    y = scale · (x − μ)/√(σ² + ε) + shift, column by column. In training, μ and σ² are the
    mini-batch's mean and biased variance, and running ← (1 − momentum) · running + momentum · batch
    with the unbiased variance, as in `torch.nn.BatchNorm1d`. Prediction uses the running averages.
    A mini-batch of one row has no variance: y = shift, and the running averages stay as they are.
    Samples of weight 0 are part of the mini-batch. A variance that overflows gives NaN.

    Parameters
    ----------
    momentum : float
        Weight of the newest batch, in (0, 1].
    epsilon : float
        ε > 0.
    """

    def __init__(self, momentum: float = 0.1, epsilon: float = 1e-5):
        self.momentum: float = checks.number("momentum", momentum, 0.0, 1.0, low_open=True)
        self.epsilon: float = checks.number("epsilon", epsilon, low_open=True)


class LayerNorm(Layer):
    """Layer normalisation (Ba, Kiros & Hinton 2016).

    y = scale · (x − μ)/√(σ² + ε) + shift with μ and σ² of each row.

    Parameters
    ----------
    epsilon : float
        ε > 0.
    """

    def __init__(self, epsilon: float = 1e-5):
        self.epsilon: float = checks.number("epsilon", epsilon, low_open=True)


class Dropout(Layer):
    """Inverted dropout (Srivastava et al. 2014).

    In training each value becomes 0 with probability ``rate``, and is else scaled by 1/(1 − rate).

    Parameters
    ----------
    rate : float or Schedule
        In [0, 1), or a schedule of it over the optimiser's steps. L-BFGS counts no steps: the rate
        stays as it is.
    """

    def __init__(self, rate: float | Schedule):
        self.rate: float | Schedule = (
            rate
            if isinstance(rate, Schedule)
            else checks.number("rate", rate, 0.0, 1.0, high_open=True)
        )


class GaussianNoise(Layer):
    """Adds std · N(0, 1) to each value in training.

    Parameters
    ----------
    std : float
        Standard deviation of the noise, in the units of x.
    """

    def __init__(self, std: float):
        self.std: float = checks.number("std", std)


class Residual(Layer):
    """A residual block (He et al. 2016): y = f(F(x) + x), with F any run of layers.

    Parameters
    ----------
    layers : sequence of Layer
        F.
    activation : str or Activation
        f, after the sum.
    projection : {"auto", True, False}
        Whether x goes through a matrix without bias before the sum. "auto": only where F changes
        the width. With False a change of width is an error.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        activation: str | Activation = "linear",
        projection: str | bool = "auto",
    ):
        self.layers: list[Layer] = check_layers("layers of Residual", layers)
        _check_depth([self])
        self.activation: Activation = as_activation(activation)
        is_boolean = isinstance(projection, bool | np.bool_)
        if not is_boolean and not (isinstance(projection, str) and projection == "auto"):
            raise ValueError(f"projection must be 'auto', True or False, not {projection!r}")
        self.projection: str | bool = bool(projection) if is_boolean else "auto"


class Heads(Layer):
    """A linear map of its own for each member: y_m = x_m W_m + b_m; the end of a `BatchEnsemble`.

    Parameters
    ----------
    units : int
        Outputs of a member.
    init, bias_init : str, Initializer or array
        How W, (members, n_in, units), and b, (members, units), start; as arrays they have these
        shapes. Each member draws its own numbers.
    bias : bool
        Whether there is a b.
    lr_factor, decay_factor : float
        Factors of the learning rate and of the optimiser's ``weight_decay`` for W.
    bias_lr_factor : float
        Factor of the learning rate for b.
    """

    def __init__(
        self,
        units: int,
        init: Any = "fan_in_uniform",
        bias: bool = True,
        bias_init: Any = "fan_in_uniform",
        lr_factor: float = 1.0,
        decay_factor: float = 1.0,
        bias_lr_factor: float = 1.0,
    ):
        self.units: int = checks.integer("units", units)
        self.init: Initializer | ArrayInitializer = explicit_initializer("init", init)
        self.bias: bool = checks.boolean("bias", bias)
        self.bias_init: Initializer | ArrayInitializer = explicit_initializer(
            "bias_init", bias_init
        )
        self.lr_factor: float = checks.number("lr_factor", lr_factor)
        self.decay_factor: float = checks.number("decay_factor", decay_factor)
        self.bias_lr_factor: float = checks.number("bias_lr_factor", bias_lr_factor)


class BatchEnsemble(Layer):
    """Members that share their weights (Wen, Tran & Ba 2020), as TabM has them; the last layer.

    Each member m sees the same x, scaled by its own r: x_m = r_m ⊙ x (Gorishniy, Kotelnikov &
    Babenko 2024). Behind that it goes its own way through ``layers``, in which

    - `Dense` is y_m = f(s_m ⊙ (r_m ⊙ x_m) W + b_m), W being the members' common weight. The first
      layer has no r of its own: it is the one above.
    - `Activation` and `Dropout` act on each member by itself, with its own α and masks.
    - `Heads`, as the last, is a linear map of each member's own.

    The loss of a sample is the mean of its members' losses, each taken against the same target.
    ``predict`` gives the mean of the members' predictions, probabilities where the loss has a link,
    and metrics are those of this mean. ``forward`` gives the raw outputs of each member, (n,
    members, outputs).

    Parameters are named ``"0.r"`` (members, n_in), ``"0.0.weight"`` (n_in, units), ``"0.0.s"`` and
    ``"0.0.bias"`` (members, units), from the second Dense on ``"0.1.r"`` too, and of `Heads`
    ``"0.2.weight"`` (members, n_in, units).

    Parameters
    ----------
    members : int
    layers : sequence of Layer
        Of the kinds above; a Dense cannot start from data here.
    scaling : {"all", "first"}
        "first" is TabM-mini: only the first r, and then each Dense is y_m = f(x_m W + b).
    start : {"signs", "normal"}
        How the first r starts, which alone tells the members apart: ±1, or N(0, 1), which TabM
        takes behind embeddings. All other r and s start at 1, and the b of a Dense is one draw for
        all members.
    groups : sequence of int, optional
        Widths of runs of columns of x that make one feature, such as an embedding's. The first r
        starts with one draw for each of them and member.
    lr_factor, decay_factor : float
        Factors of the learning rate and of the optimiser's ``weight_decay`` for r and s. TabM's
        authors let them decay as weights do.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, or the layer that cannot stand there.

    Examples
    --------
    >>> import fastnn as fnn
    >>> block = [fnn.Dense(64, "relu"), fnn.Dropout(0.1)]
    >>> tabm = fnn.BatchEnsemble(32, [*block, *block, fnn.Heads(2)])
    >>> net = fnn.Network([tabm], inputs=10, loss="softmax_cross_entropy", backend="numpy")
    >>> net.outputs, net.parameters["0.r"].shape
    (2, (32, 10))

    TabM starts the shared weights and biases from U(±1/√n_in), PyTorch's default for a linear
    layer: ``Dense(64, "relu", init="fan_in_uniform", bias_init="fan_in_uniform")``.
    """

    def __init__(
        self,
        members: int,
        layers: Sequence[Layer],
        scaling: str = "all",
        start: str = "signs",
        groups: Sequence[int] | None = None,
        lr_factor: float = 1.0,
        decay_factor: float = 1.0,
    ):
        self.members: int = checks.integer("members", members)
        if self.members > _MOST_MEMBERS:
            raise ValueError(f"members must be at most {_MOST_MEMBERS}, not {members}")
        self.layers: list[Layer] = _checked_member_layers(layers)
        self.scaling: str = checks.one_of("scaling", scaling, MEMBER_SCALINGS)
        self.start: str = checks.one_of("start", start, STARTS)
        self.groups: list[int] | None = None
        if groups is not None:
            if isinstance(groups, str) or not isinstance(groups, Sequence | np.ndarray):
                raise TypeError(f"groups must be a list of integers, not {groups!r}")
            self.groups = [checks.integer(f"groups[{i}]", n) for i, n in enumerate(groups)]
        self.lr_factor: float = checks.number("lr_factor", lr_factor)
        self.decay_factor: float = checks.number("decay_factor", decay_factor)


_DEEPEST = 40  # Residual blocks one inside the other: copies recurse ten calls for each

LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (
        *(Dense, Activation, BatchNorm, LayerNorm, Dropout, GaussianNoise, Residual),
        *(Scale, Embedding, PiecewiseLinear, Periodic, BatchEnsemble, Heads),
    )
}


def check_layers(name: str, layers: Any) -> list[Layer]:
    """``layers`` as a list, or an error that names what is not a layer."""
    if isinstance(layers, Layer | str) or not isinstance(layers, Sequence):
        raise TypeError(f"{name} must be a list of layers, not {layers!r}")
    if not layers:
        raise ValueError(f"{name} must hold at least one layer")
    for i, layer in enumerate(layers):
        if type(layer) not in LAYERS.values():  # a subclass would need a lowering of its own
            hint = " (a class: call it to make a layer)" if isinstance(layer, type) else ""
            raise TypeError(f"{name}[{i}] must be one of {', '.join(LAYERS)}, not {layer!r}{hint}")
    _check_depth(layers)
    return list(layers)


def _check_depth(layers: Sequence[Layer]) -> None:
    """ValueError where blocks in blocks go so deep that saving and copying might not follow."""
    level: Sequence[Layer] = layers
    for _ in range(_DEEPEST + 1):
        blocks = {id(layer): layer for layer in level if isinstance(layer, Residual)}
        level = [inner for block in blocks.values() for inner in block.layers]
        if not blocks:
            return
    raise ValueError(
        f"Residual blocks are nested more than {_DEEPEST} deep, one inside the other; "
        "put them one after the other"
    )


def _checked_member_layers(layers: Any) -> list[Layer]:
    """``layers`` as a list, or an error that names what cannot be a member's layer."""
    name = "layers of BatchEnsemble"
    checked = check_layers(name, layers)
    if not any(isinstance(layer, Dense | Heads) for layer in checked):
        raise ValueError(f"{name} must hold a Dense or Heads layer")
    for i, layer in enumerate(checked):
        if not isinstance(layer, Dense | Activation | Dropout | Heads):
            raise TypeError(
                f"{name}[{i}] must be Dense, Activation, Dropout or Heads, not {layer!r}"
            )
        if isinstance(layer, Heads) and i + 1 < len(checked):
            raise ValueError(f"{name}[{i}]: Heads must be the last of them")
        if isinstance(layer, Dense) and not {DATA_WEIGHT, DATA_BIAS}.isdisjoint(
            start.to_config()["name"] for start in (layer.init, layer.bias_init)
        ):
            raise ValueError(
                f"{name}[{i}]: members cannot start from data, "
                f"which init={DATA_WEIGHT!r} and bias_init={DATA_BIAS!r} do"
            )
    return checked


def layer_from_config(config: dict[str, Any]) -> Layer:
    """The inverse of `Layer.to_config`."""
    values = {key: value for key, value in config.items() if key != "layer"}
    if config["layer"] == "Activation":
        return _activation_from_config(values)
    for key in values:
        if key == "activation":
            values[key] = _activation_from_config(values[key])
        elif key in ("init", "bias_init"):
            values[key] = _initializer_from_config(values[key])
        elif key == "rate" and isinstance(values[key], dict):
            values[key] = schedule_from_config(values[key])
        elif key == "layers":
            values[key] = [layer_from_config(inner) for inner in values[key]]
    return LAYERS[config["layer"]](**values)


def dense_initializers(layer: Dense, following: Iterable[Layer]) -> tuple[Any, Any]:
    """How W and b start: also where that is left to the layers that follow, or to the data."""
    init, bias_init, is_ntk = layer.init, layer.bias_init, layer.scaling == "ntk"
    if isinstance(init, Initializer) and init.name == "auto":
        chosen = ACTIVATIONS[_effective_activation(layer, following)].init
        init = Initializer("standard_normal" if is_ntk else chosen)
    if isinstance(init, Initializer) and init.name == DATA_WEIGHT:
        init = FromData("standard_normal" if is_ntk else "lecun_normal")
    if isinstance(bias_init, Initializer) and bias_init.name == DATA_BIAS:
        bias_init = FromData("zeros")
    return init, bias_init


def _effective_activation(layer: Dense, following: Iterable[Layer]) -> str:
    """The activation that follows the layer, past normalisation, dropout and noise, by name."""
    if layer.activation.name == "linear":
        for successor in following:
            if isinstance(successor, Activation):
                return successor.name
            if not isinstance(successor, BatchNorm | LayerNorm | Dropout | GaussianNoise):
                break
    return layer.activation.name


def _activation_from_config(config: dict[str, Any]) -> Activation:
    options = {key: value for key, value in config.items() if key not in ("constants", "layer")}
    return Activation(**options, **config["constants"])


def _initializer_from_config(config: dict[str, Any]) -> Initializer | ArrayInitializer:
    constants = {key: value for key, value in config.items() if key != "name"}
    return (
        ArrayInitializer([])
        if config["name"] == "array"
        else Initializer(config["name"], **constants)
    )
