"""The records of a diagnosis: findings, each with its cures."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastnn.nn.layers import Layer


@dataclass(frozen=True)
class Cure:
    """One change that may help: of the network's layers, of the arguments of ``fit``, or both.

    Attributes
    ----------
    change : str
        The change in words, with the exact arguments.
    layers : callable, optional
        A list of layers → the changed list.
    fit : mapping
        Arguments of ``fit`` → new values.
    """

    change: str
    layers: Callable[[Sequence[Layer]], list[Layer]] | None = None
    fit: Mapping[str, Any] = field(default_factory=dict)

    def change_layers(self, layers: Sequence[Layer]) -> list[Layer]:
        """The layers with the change, or as they are where the cure does not concern them."""
        return list(layers) if self.layers is None else self.layers(layers)

    def apply(self, net: Any) -> Any:
        """A new, untrained network like ``net`` with its layers changed.

        Train it with ``fit(…, **cure.fit)``.
        """
        return type(net)(
            self.change_layers(net.layers), net.inputs, net.loss, net.dtype, net.backend, net.seed
        )


@dataclass(frozen=True)
class Finding:
    """A fault, as it shows in figures.

    Attributes
    ----------
    fault : str
        A name of `fastnn.diagnostics.faults.FAULTS`.
    layers : tuple of str
        Names of the layers concerned, as in ``Flow.layers``; empty where it is the network as a
        whole.
    figure : str
        What was measured.
    measured, threshold : float
        The figure, and where the fault begins.
    cause : str
        Why.
    cures : tuple of Cure
        The most promising first.
    """

    fault: str
    layers: tuple[str, ...]
    figure: str
    measured: float
    threshold: float
    cause: str
    cures: tuple[Cure, ...]

    def __str__(self) -> str:
        where = (
            f"layer{'s' if len(self.layers) > 1 else ''} {_names(self.layers)}: "
            if self.layers
            else ""
        )
        lines = [
            f"{where}{self.fault}: {self.figure} is {self.measured:.3g} (fault from "
            f"{self.threshold:.3g} on); {self.cause}"
        ]
        lines += [f"  {'→' if i == 0 else 'or'} {cure.change}" for i, cure in enumerate(self.cures)]
        return "\n".join(lines)


class Diagnosis(list[Finding]):
    """Findings, the gravest first; printing it shows them in words.

    Attributes
    ----------
    unseen : str
        What was not measured, if anything.
    """

    unseen: str = ""

    def __str__(self) -> str:
        nothing = f"no fault found; {self.unseen}" if self.unseen else "no fault found"
        return "\n".join(map(str, self)) if self else nothing

    __repr__ = __str__


def _names(layers: tuple[str, ...]) -> str:
    """``0–3`` for consecutive layers, else all names."""
    numbers = [int(name) for name in layers if name.isdecimal()]
    in_a_row = len(numbers) == len(layers) and all(
        b - a == 1 for a, b in itertools.pairwise(numbers)
    )
    return f"{layers[0]}–{layers[-1]}" if in_a_row and len(layers) > 2 else ", ".join(layers)
