"""The base of all layers, and activations, which other layers take as arguments."""

import inspect
from typing import Any

from fastnn._utils import checks
from fastnn._utils.calls import named_call
from fastnn.nn.activations import activation_table, check_activation
from fastnn.nn.initializers import Initializer

_KNOWN_BEFORE = ("layer", "constants", "name")  # of an activation's description


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
    parametric : bool
        Whether each unit learns how far f acts: y = x + α ⊙ (f(x) − x), with α starting at 1
        (Holzmüller et al. 2024).
    lr_factor, decay_factor : float
        Factors of the learning rate and of the optimiser's ``weight_decay`` for α.
    **constants : float
        ``alpha`` of leaky_relu, in (0, 1), and of elu, positive.

    Raises
    ------
    ValueError, TypeError
        Unknown name (the known ones are listed), unknown constant, constant out of range.
    """

    def __init__(
        self,
        name: str,
        parametric: bool = False,
        lr_factor: float = 1.0,
        decay_factor: float = 0.0,
        **constants: float,
    ):
        self.constants: dict[str, float] = check_activation(name, constants)
        self.name: str = checks.one_of("activation", name, [name])
        self.parametric: bool = checks.boolean("parametric", parametric)
        self.lr_factor: float = checks.number("lr_factor", lr_factor)
        self.decay_factor: float = checks.number("decay_factor", decay_factor)
        if self.parametric and self.name == "linear":
            raise ValueError(
                "parametric: 'linear' is the identity itself, so α would change nothing"
            )

    def is_default(self) -> bool:
        """Whether the name alone says all."""
        has_defaults = self.constants == check_activation(self.name, {})
        return has_defaults and not self.parametric

    def to_config(self) -> dict[str, Any]:
        """The activation as plain data for a model file; earlier versions know no α."""
        plain = super().to_config()
        return plain if self.parametric else {key: plain[key] for key in _KNOWN_BEFORE}

    def __repr__(self) -> str:
        learnt = {}
        if self.parametric:
            learnt = {"parametric": True}
            learnt |= {} if self.lr_factor == 1 else {"lr_factor": self.lr_factor}
            learnt |= {} if self.decay_factor == 0 else {"decay_factor": self.decay_factor}
        return named_call("Activation", self.name, learnt | self.constants)


Activation.__doc__ = checks.with_table(Activation.__doc__, activation_table())


def as_activation(activation: str | Activation) -> Activation:
    """An `Activation` from a name or an `Activation`."""
    return activation if isinstance(activation, Activation) else Activation(activation)


def _plain(value: Any) -> Any:
    """A layer's argument as plain data."""
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.to_config() if hasattr(value, "to_config") else value
