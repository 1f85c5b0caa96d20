"""Gradient flow: figures of each layer's gradient, weights and activations, step by step.

Engines compute the sums (`fastnn._kernels.opcodes`, statistics of a step); here they become figures
by layer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.contract import Program, Samples
from fastnn.nn.activations import ACTIVATIONS

FIGURES = (
    "learning_speed",
    "gradient_norm",
    "weight_norm",
    "update_ratio",
    "activation_mean",
    "activation_variance",
    "dead",
    "saturated",
)
DESCRIPTION = ("layers", "units", "activations", "normalised")
SCALES = ("input_scale", "target_scale")
_ROWS_FOR_SCALE = 2000
_FEWEST = 16  # samples on which a unit must be off to count as dead
_NORMS = (oc.BATCH_NORM, oc.LAYER_NORM)
_FOLLOWS = (*_NORMS, oc.ELEMENTWISE, oc.NOISE, oc.PARAMETRIC)
_NAME_OF_CODE = {spec.code: name for name, spec in ACTIVATIONS.items()}


@dataclass(frozen=True)
class LayerOps:
    """Where the op table has the figures of a Dense layer: numbers of operations.

    ``shift`` is the operation whose bias moves the layer's z: the norm's between the product and
    its activation, if there is one (a bias before BatchNorm has no gradient), else the product's
    own. ``value`` is the operation whose output is the layer's activation.
    """

    name: str
    units: int
    dense: int
    shift: int
    value: int
    activation: str
    normalised: bool


def layer_ops(program: Program) -> list[LayerOps]:
    """The Dense layers of a program in order, projections of residual blocks left out."""
    names = {
        array.offset: array.name.removesuffix(".weight")
        for array in program.parameters
        if array.kind == "weight"
    }
    layers = []
    for i, op in enumerate(program.ops):
        if op["code"] != oc.DENSE or names[op["weight"]].endswith("projection"):
            continue
        chain = [i, *_successors(program.ops, i)]
        norms = [k for k in chain if program.ops[k]["code"] in _NORMS]
        # Each member of an ensemble has its bias behind the product that all share.
        own = [k for k in chain if program.ops[k]["code"] == oc.MEMBER_SCALE]
        active = next((k for k in chain if program.ops[k]["activation"] != oc.LINEAR), chain[-1])
        activation = _NAME_OF_CODE[int(program.ops[active]["activation"])]
        layers.append(
            LayerOps(
                names[op["weight"]],
                int(op["n_out"]),
                i,
                [i, *own, *norms][-1],
                active,
                activation,
                bool(norms),
            )
        )
    return layers


def _successors(ops: np.ndarray, i: int) -> Iterator[int]:
    """The element-wise operations behind operation i, up to and with its activation."""
    while ops[i]["activation"] == oc.LINEAR and ops[i]["code"] != oc.PARAMETRIC:
        readers = np.flatnonzero((ops["x"] == ops[i]["y"]) | (ops["skip"] == ops[i]["y"]))
        if len(readers) != 1 or not _follows(ops[i], ops[readers[0]]):
            return
        i = int(readers[0])
        yield i


def _follows(op: Any, reader: Any) -> bool:
    """Whether ``reader`` belongs to the layer of ``op``; members' factors of a product do."""
    is_of_product = op["code"] == oc.DENSE and reader["code"] == oc.MEMBER_SCALE
    return is_of_product or reader["code"] in _FOLLOWS


class Flow:
    """Figures of each Dense layer at the steps that were recorded; `GradientFlow` fills it.

    Attributes
    ----------
    layers : tuple of str
        Names of the Dense layers, input side first: ``"0"`` for the parameters ``"0.weight"`` and
        ``"0.bias"``.
    units : tuple of int
        Widths of the layers; in a `BatchEnsemble` of all its members together.
    activations : tuple of str
        The activation of each layer, behind its normalisation.
    normalised : tuple of bool
        Whether a normalisation stands between product and activation.
    input_scale, target_scale : float
        Root mean square of the inputs, and of the targets where they are values; NaN where they are
        not known.
    steps : ndarray (n,)
        Numbers of the recorded steps, counted from 0 over the life of the network.
    learning_speed : ndarray (n, layers)
        ‖∂C/∂b^l‖₂ = ‖δ^l‖₂ of the mini-batch's mean: the speed at which a layer's biases learn
        (Nielsen, chapter 5). Where a normalisation stands between product and activation, of its
        shift, which takes the bias's place.
    gradient_norm, weight_norm : ndarray (n, layers)
        ‖∂C/∂W‖₂, penalties included, before clipping, and ‖W‖₂ before the update.
    update_ratio : ndarray (n, layers)
        ‖ΔW‖₂/‖W‖₂.
    activation_mean, activation_variance : ndarray (n, layers)
        Over units and samples of the mini-batch.
    dead : ndarray (n, layers)
        Fraction of ReLU units whose output is 0 for every sample of the mini-batch; NaN for other
        activations, and where fewer than 16 samples pass dropout, which are too few.
    saturated : ndarray (n, layers)
        Fraction of outputs in the outer 5 % of the range on either side, of activations with two
        flat ends (sigmoid, tanh, their hard variants, softsign); NaN for others.
    """

    def __init__(
        self,
        layers: Sequence[str],
        units: Sequence[int],
        activations: Sequence[str],
        normalised: Sequence[bool],
    ):
        self.layers: tuple[str, ...] = tuple(layers)
        self.units: tuple[int, ...] = tuple(units)
        self.activations: tuple[str, ...] = tuple(activations)
        self.normalised: tuple[bool, ...] = tuple(normalised)
        self.input_scale: float = float("nan")
        self.target_scale: float = float("nan")
        nothing = np.zeros((0, len(self.layers)))
        self._records = {"steps": [np.zeros(0, np.int64)], **{name: [nothing] for name in FIGURES}}

    def __getattr__(self, name: str) -> np.ndarray:
        records = vars(self).get("_records", {}).get(name)
        if records is None:
            raise AttributeError(
                f"a Flow has no {name!r}; it has {', '.join(DESCRIPTION)}, steps, "
                f"{', '.join(FIGURES)}"
            )
        if len(records) > 1:
            records[:] = [np.concatenate(records)]
        return records[0]

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        return f"<Flow of {len(self.layers)} layers at {len(self)} steps>"

    def add(self, steps: np.ndarray, figures: Mapping[str, np.ndarray]) -> None:
        """Append records: ``figures`` by the names of `FIGURES`, each (n, layers)."""
        self._records["steps"].append(np.asarray(steps, np.int64))
        for name in FIGURES:
            self._records[name].append(
                np.asarray(figures[name], np.float64).reshape(len(steps), len(self.layers))
            )

    def to_plain(self) -> dict[str, Any]:
        """Plain data for JSON; figures that are not finite become None."""
        figures = {
            name: [
                [v if np.isfinite(v) else None for v in row] for row in getattr(self, name).tolist()
            ]
            for name in FIGURES
        }
        description: dict[str, Any] = {name: list(getattr(self, name)) for name in DESCRIPTION}
        description |= {
            name: getattr(self, name) if np.isfinite(getattr(self, name)) else None
            for name in SCALES
        }
        return {**description, "steps": self.steps.tolist(), **figures}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Flow":
        """The inverse of `to_plain`."""
        flow = cls(*(plain[name] for name in DESCRIPTION))
        for name in SCALES:
            setattr(flow, name, float("nan") if plain[name] is None else float(plain[name]))
        flow.add(
            np.array(plain["steps"], np.int64),
            {name: np.array(plain[name], np.float64) for name in FIGURES},
        )
        return flow


class Recorder:
    """Turns an engine's sums into figures, and keeps these.

    Parameters
    ----------
    program : Program
    samples : Samples
        The first rows give the scale of the data.

    Attributes
    ----------
    flow : Flow
    """

    def __init__(self, program: Program, samples: Samples):
        layers, ops = layer_ops(program), program.ops
        self.flow: Flow = Flow(
            *(
                [getattr(layer, name) for layer in layers]
                for name in ("name", "units", "activation", "normalised")
            )
        )
        self.flow.input_scale = _scale(samples.X)
        self.flow.target_scale = _scale(None if samples.classify else samples.values)
        self._dense, self._shift, self._value = (
            np.array([getattr(layer, name) for layer in layers], np.int64)
            for name in ("dense", "shift", "value")
        )
        self._units = ops["n_out"][self._value].astype(np.float64)
        self._dropout = ops["rate"][self._value]
        self._schedule = ops["schedule"][self._value]
        self._relu = ops["activation"][self._value] == oc.RELU
        self._saturates = np.isin(
            ops["activation"][self._value],
            [row.code for row in ACTIVATIONS.values() if row.saturation],
        )

    def add(
        self, steps: np.ndarray, statistics: np.ndarray, rows: np.ndarray, dropout: np.ndarray
    ) -> None:
        """Record steps.

        Parameters
        ----------
        steps : ndarray (n,)
            Their numbers.
        statistics : ndarray (n, operations, N_STATISTICS)
        rows : ndarray (n,)
            Samples in each mini-batch.
        dropout : ndarray (n, schedules)
            Rates of dropout that have a schedule.
        """
        has_schedule = self._schedule >= 0
        kept = np.tile(1 - self._dropout, (len(steps), 1))
        kept[:, has_schedule] = 1 - dropout[:, self._schedule[has_schedule]]
        of_dense, of_value = statistics[:, self._dense], statistics[:, self._value]
        outputs = rows[:, None] * self._units
        # A weight of zeros has no update ratio; squares of a network that diverges overflow.
        with np.errstate(all="ignore"):
            mean = of_value[:, :, oc.VALUES] / outputs
            figures = {
                "learning_speed": np.sqrt(statistics[:, self._shift, oc.DELTA]),
                "gradient_norm": np.sqrt(of_dense[:, :, oc.GRADIENT]),
                "weight_norm": np.sqrt(of_dense[:, :, oc.WEIGHT]),
                "update_ratio": np.sqrt(of_dense[:, :, oc.UPDATE] / of_dense[:, :, oc.WEIGHT]),
                "activation_mean": mean,
                "activation_variance": np.maximum(
                    of_value[:, :, oc.SQUARES] / outputs - mean**2, 0.0
                ),
                "dead": np.where(
                    self._relu & (rows[:, None] * kept >= _FEWEST),
                    of_value[:, :, oc.DEAD] / self._units,
                    np.nan,
                ),
                "saturated": np.where(
                    self._saturates, of_value[:, :, oc.SATURATED] / (outputs * kept), np.nan
                ),
            }
        self.flow.add(steps, figures)


def _scale(values: np.ndarray | None) -> float:
    """Root mean square of the first rows; NaN where there are none."""
    return (
        float("nan")
        if values is None
        else float(np.sqrt(np.square(values[:_ROWS_FOR_SCALE], dtype=np.float64).mean()))
    )
