"""`TableModel`: an encoder of tables, networks, and what was learnt from rows held out."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from fastnn._utils import checks
from fastnn.ensemble import Ensemble
from fastnn.estimators.calibration import with_temperature
from fastnn.estimators.conformal import Conformal, sets
from fastnn.estimators.quantiles import QuantileModel
from fastnn.network import Network
from fastnn.tabular.encoder import TableEncoder
from fastnn.tabular.targets import BoundedValue, Classes

ENCODER, MODEL = "encoder", "table"  # keys of the metadata
QUANTILES = "quantiles"  # the companion's name


@dataclass(eq=False)
class TableModel:
    """What predicts the target of a table.

    Attributes
    ----------
    encoder : TableEncoder
    networks : Ensemble
    temperature : float
        Of the averaged probabilities; 1 leaves them as they are.
    threshold : float or None
        The probability from which the second of two classes is the answer; None means that of the
        likeliest class.
    conformal : Conformal or None
        Where rows were held out.
    quantiles : QuantileModel or None
        Of values.
    scores : dict
        Of the rows that were held out.
    recipe : str
    """

    encoder: TableEncoder
    networks: Ensemble
    temperature: float = 1.0
    threshold: float | None = None
    conformal: Conformal | None = None
    quantiles: QuantileModel | None = None
    scores: dict[str, float] = field(default_factory=dict)
    recipe: str = ""

    @property
    def classifies(self) -> bool:
        return isinstance(self.encoder.target, Classes)

    # --- predicting -------------------------------------------------------------------------------

    def outputs(self, X: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes), or standardised values (n, 1), of encoded rows."""
        return with_temperature(self.networks.predict(X), self.temperature)

    def decode(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Predictions by column name; see `TableEncoder.decode`."""
        decoded = self.encoder.decode(outputs)
        if self.threshold is not None:
            assert isinstance(self.encoder.target, Classes)
            chosen = (outputs[:, 1] >= self.threshold).astype(np.int64)
            decoded["prediction"] = self.encoder.target.labels()[chosen]
        return decoded

    def intervals(self, outputs: np.ndarray, coverage: float) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds (n,) that hold so large a share of new values."""
        values = self.encoder.decode(outputs)["prediction"]
        radius = self._conformal().radius(coverage)
        return values - radius, values + radius

    def sets(self, outputs: np.ndarray, coverage: float) -> np.ndarray:
        """Which classes (n, classes) may be true, so that the truth is among them so often."""
        return sets(outputs, self._conformal().radius(coverage))

    def predict_quantiles(self, X: np.ndarray, levels: Sequence[float]) -> np.ndarray:
        """Quantiles (n, levels) of encoded rows, in the unit of the target and within its range."""
        target = self.encoder.target
        if self.quantiles is None or not isinstance(target, BoundedValue):
            raise ValueError(
                "the model has no network of quantiles: fit a TabularRegressor with quantiles=True"
            )
        if isinstance(levels, str) or not isinstance(levels, Sequence | np.ndarray):
            raise TypeError(f"levels must be a list of numbers, such as [0.1, 0.9]; got {levels!r}")
        for i, level in enumerate(levels):
            checks.number(f"levels[{i}]", level, 0.0, 1.0, low_open=True, high_open=True)
        q = self.quantiles.predict(X, self.networks.predict(X)[:, 0], levels)
        return np.clip(q * target.scale + target.mean, target.low, target.high)

    def _conformal(self) -> Conformal:
        if self.conformal is None:
            raise ValueError("coverage needs a model that was validated on rows held out")
        return self.conformal

    # --- files ------------------------------------------------------------------------------------

    def metadata(self) -> dict[str, Any]:
        """What a model file has beside the networks, as plain data."""
        return {
            ENCODER: self.encoder.to_dict(),
            MODEL: {
                "recipe": self.recipe,
                "temperature": self.temperature,
                "threshold": self.threshold,
                "conformal": None if self.conformal is None else self.conformal.to_dict(),
                "quantiles": None if self.quantiles is None else self.quantiles.to_dict(),
                "scores": {k: float(v) for k, v in self.scores.items() if np.isfinite(v)},
            },
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file, which `TableModel.of` takes after `fastnn.load`."""
        self.ensemble().save(path)

    def ensemble(self) -> Ensemble:
        """The networks with all that a file holds."""
        network = None if self.quantiles is None else self.quantiles.network
        companions = {} if network is None else {QUANTILES: network}
        return Ensemble(list(self.networks), self.metadata(), companions)

    @classmethod
    def of(cls, model: Network | Ensemble) -> Self:
        """The table model of a model file, checked.

        Raises
        ------
        ValueError
            The file has no encoder, or metadata that `metadata` does not give.
        """
        found = model.metadata
        if found.get(ENCODER) is None:
            raise ValueError("the model was not trained on a table: it has no encoder")
        encoder = TableEncoder.from_dict(found[ENCODER])
        if encoder.target is None:
            raise ValueError(f"the model's metadata {ENCODER!r} has no target")
        expected = encoder.inputs, encoder.outputs
        if expected != (model.inputs, model.outputs):
            raise ValueError(
                f"the model's metadata {ENCODER!r} makes {expected[0]:,} inputs and "
                f"{expected[1]:,} outputs of a table, but the network has "
                f"{model.inputs:,} and {model.outputs:,}"
            )
        networks = Ensemble([model]) if isinstance(model, Network) else model
        return cls(encoder, networks, **_learnt(found.get(MODEL, {}), encoder, networks))


def _learnt(plain: Any, encoder: TableEncoder, networks: Ensemble) -> dict[str, Any]:
    """The fields that `TableModel.metadata` wrote, checked."""
    if plain == {}:
        return {}
    try:
        threshold, conformal, scores = plain["threshold"], plain["conformal"], plain["scores"]
        quantiles = plain["quantiles"]
        if threshold is not None and encoder.outputs != 2:
            raise ValueError("threshold goes with two classes")
        return {
            "recipe": str(plain["recipe"]),
            "temperature": checks.number("temperature", plain["temperature"], 1e-3, 1e3),
            "threshold": None
            if threshold is None
            else checks.number("threshold", threshold, 0.0, 1.0),
            "conformal": None if conformal is None else Conformal.from_dict(conformal),
            "quantiles": None
            if quantiles is None
            else QuantileModel.from_dict(quantiles, networks.companions.get(QUANTILES)),
            "scores": _scores(scores),
        }
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"the model's metadata {MODEL!r} is not what fastnn writes ({error!r})"
        ) from error


def _scores(plain: Any) -> dict[str, float]:
    if not isinstance(plain, Mapping):
        raise TypeError("scores must be a dict")
    return {str(name): float(value) for name, value in plain.items()}
