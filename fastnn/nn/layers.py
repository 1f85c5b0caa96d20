"""Layers: descriptions only.

`fastnn.nn.lowering` turns them into operations, and `fastnn._kernels` does the arithmetic. Rows are
samples: a layer takes x of shape (batch, n_in) and gives y of shape (batch, n_out).
"""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn._utils import checks
from fastnn.nn.activations import activation_table, check_activation
from fastnn.nn.calls import named_call
from fastnn.nn.initializers import INITIALIZERS, ArrayInitializer, Initializer, as_initializer


class Layer:
    """Base of all layers."""

    def to_config(self) -> dict[str, Any]:
        """The layer as plain data for a model file."""
        return {
            "layer": type(self).__name__,
            **{key: _plain(value) for key, value in vars(self).items()},
        }

    def __repr__(self) -> str:
        """The call that makes the layer, without arguments that have their default value."""
        defaults = {name: p.default for name, p in inspect.signature(type(self)).parameters.items()}
        shown = {name: _plain_name(value) for name, value in vars(self).items()}
        arguments = [
            f"{name}={value!r}" for name, value in shown.items() if value != defaults[name]
        ]
        return f"{type(self).__name__}({', '.join(arguments)})"


def _plain_name(value: Any) -> Any:
    """The name that stands for an activation or initialiser with its default constants."""
    is_named = isinstance(value, Activation | Initializer) and value.is_default()
    return value.name if is_named else value


class Activation(Layer):
    """An elementwise non-linearity y = f(x), as a layer of its own or as ``Dense(activation=…)``.

    {table}

    The derivative of ReLU at its kink is 0, as in PyTorch, JAX and scikit-learn; the bounds of the
    hard ones count as flat too.

    Parameters
    ----------
    name : str
        A name of the table.
    **constants : float
        ``alpha`` of leaky_relu, in (0, 1), and of elu, positive.

    Raises
    ------
    ValueError, TypeError
        Unknown name (the known ones are listed), unknown constant, constant out of range.
    """

    def __init__(self, name: str, **constants: float):
        self.constants: dict[str, float] = check_activation(name, constants)
        self.name: str = checks.one_of("activation", name, [name])

    def is_default(self) -> bool:
        """Whether the constants are the activation's defaults."""
        return self.constants == check_activation(self.name, {})

    def __repr__(self) -> str:
        return named_call("Activation", self.name, self.constants)


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
        layer where there is none here.
    bias : bool
        Whether there is a b.
    bias_init : str, Initializer or array
        How b starts. Nielsen's book draws biases from N(0, 1): ``bias_init="standard_normal"``,
        which `mlp` sets for you with ``init="nielsen"`` and ``init="standard_normal"``.
    l1, l2 : float
        Penalties λ₁Σ|w| and ½λ₂Σw² over W, added to the loss.
    max_norm : float, optional
        After each step the incoming weights of a unit (a column of W) are scaled down to this
        Euclidean norm where they are longer (Srivastava et al. 2014).

    Raises
    ------
    ValueError, TypeError
        Naming the argument.
    """

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
    ):
        self.units: int = checks.integer("units", units)
        self.activation: Activation = as_activation(activation)
        self.init: Initializer | ArrayInitializer = as_initializer(init)
        self.bias: bool = checks.boolean("bias", bias)
        self.bias_init: Initializer | ArrayInitializer = as_initializer(bias_init)
        if self.bias_init.to_config()["name"] == "auto":
            raise ValueError(
                f"bias_init cannot be 'auto'; known: {', '.join(INITIALIZERS)}, or an array"
            )
        self.l1: float = checks.number("l1", l1)
        self.l2: float = checks.number("l2", l2)
        self.max_norm: float | None = None
        if max_norm is not None:
            self.max_norm = checks.number("max_norm", max_norm, low_open=True)


Activation.__doc__ = checks.with_table(Activation.__doc__, activation_table())


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
    rate : float
        In [0, 1).
    """

    def __init__(self, rate: float):
        self.rate: float = checks.number("rate", rate, 0.0, 1.0, high_open=True)


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


_DEEPEST = 40  # Residual blocks one inside the other: copies recurse ten calls for each

LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (Dense, Activation, BatchNorm, LayerNorm, Dropout, GaussianNoise, Residual)
}


def as_activation(activation: str | Activation) -> Activation:
    """An `Activation` from a name or an `Activation`."""
    return activation if isinstance(activation, Activation) else Activation(activation)


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
        elif key == "layers":
            values[key] = [layer_from_config(inner) for inner in values[key]]
    return LAYERS[config["layer"]](**values)


def _activation_from_config(config: dict[str, Any]) -> Activation:
    return Activation(config["name"], **config["constants"])


def _initializer_from_config(config: dict[str, Any]) -> Initializer | ArrayInitializer:
    constants = {key: value for key, value in config.items() if key != "name"}
    return (
        ArrayInitializer([])
        if config["name"] == "array"
        else Initializer(config["name"], **constants)
    )


def _plain(value: Any) -> Any:
    """A layer's argument as plain data."""
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.to_config() if hasattr(value, "to_config") else value
