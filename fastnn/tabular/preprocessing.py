"""The encoding that model files of version 0.1.0 carry: numbers standardised, all names one-hot.

`fastnn.tabular.encoder` has taken its place; what those files hold is read and used as before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from fastnn.tabular.columns.description import restored
from fastnn.tabular.columns.matrix import encode
from fastnn.tabular.features import Category, Number, Unknown
from fastnn.tabular.messages import listed, quoted
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.remarks import gaps, remarks_on_gaps, remarks_on_names, unknown
from fastnn.tabular.table import Table
from fastnn.tabular.targets import Classes, Value

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Number, Category, Classes, Value)}


@dataclass(frozen=True)
class Preprocessing:
    """How a table becomes a network's inputs and targets, learnt from the training rows.

    Attributes
    ----------
    features : tuple of Number and Category
        In the order of the network's inputs.
    target : Classes or Value
    """

    features: tuple[Number | Category, ...]
    target: Classes | Value

    @property
    def outputs(self) -> int:
        """Outputs that the network needs: one for each class, or one for values."""
        return len(self.target.classes) if isinstance(self.target, Classes) else 1

    def read_options(self, options: ReadOptions, with_target: bool) -> ReadOptions:
        """How to read a file for the network: the columns that it takes, as what they were."""
        kinds: dict[str, set[str]] = {"text": set(), "number": set(), "coerce": set()}
        for feature in self.features:
            if isinstance(feature, Number):
                kinds["coerce" if feature.coerce else "number"].add(feature.name)
            elif not _is_boolean(feature.categories):  # which the reader recognises itself
                kinds["text"].add(feature.name)
        names = {feature.name for feature in self.features}
        if with_target:
            names.add(self.target.name)
            if isinstance(self.target, Value):
                kinds["number"].add(self.target.name)
            elif self.target.kind == "text":
                kinds["text"].add(self.target.name)
        return replace(options, only=names, **kinds)

    def check_columns(self, table: Table) -> None:
        """ValueError unless the table has a column for each feature."""
        missing = [feature.name for feature in self.features if feature.name not in table.columns]
        if missing:
            raise ValueError(
                f"{table.source} lacks the columns {listed(missing)}; it has {listed(table.names)}"
            )

    @property
    def inputs(self) -> int:
        """Inputs of the network."""
        return sum(feature.width for feature in self.features)

    @property
    def target_name(self) -> str:
        """The name of the target."""
        return self.target.name

    @property
    def columns(self) -> list[str]:
        """The columns of a table that it takes."""
        return [feature.name for feature in self.features]

    def transform(
        self,
        table: Table,
        dtype: DTypeLike = np.float64,
        rows: np.ndarray | None = None,
        consume: bool = False,
    ) -> np.ndarray:
        """The features (n, inputs) of a table.

        The order of its columns does not matter, nor do columns that are no features.

        Parameters
        ----------
        table : Table
        dtype : dtype
        rows : ndarray of int, optional
            Their order; by default all as they come.
        consume : bool
            Whether to take the columns out of the table, so that their memory is free again while
            the inputs grow.
        """
        self.check_columns(table)
        return encode(self.features, table, dtype, rows, consume)

    def transform_target(self, table: Table) -> np.ndarray:
        """Class numbers or standardised values (n,)."""
        if self.target.name not in table.columns:
            raise ValueError(
                f"{table.source} lacks the target column {quoted(self.target.name)}; "
                f"it has {listed(table.names)}"
            )
        return self.target.encode(table[self.target.name])

    def decode(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Predictions from the network's outputs, by column name."""
        return self.target.decode(outputs)

    def filled(self, table: Table) -> dict[str, int]:
        """The number of gaps that `transform` fills with the training mean, by column with gaps."""
        names = [feature.name for feature in self.features if isinstance(feature, Number)]
        return gaps((name, table[name].numbers()) for name in names)

    def unknown(self, table: Table) -> dict[str, Unknown]:
        """The names that are no category, by column with such."""
        known = {f.name: f.categories for f in self.features if isinstance(f, Category)}
        return unknown(table, known)

    def remarks(self, table: Table) -> list[str]:
        """What may surprise about a table that is to be predicted, a line for each thing."""
        return [
            *table.notes,
            *remarks_on_gaps(self.filled(table), "mean"),
            *remarks_on_names(self.unknown(table)),
        ]

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Self:
        """The encoding that a model file describes. Runs no code from the description."""
        try:
            return cls(
                tuple(restored(feature, _KINDS) for feature in description["features"]),
                restored(description["target"], _KINDS),
            )
        except (KeyError, TypeError, AttributeError, OverflowError, ValueError) as error:
            raise ValueError(
                "the model's metadata 'preprocessing' does not describe one of version 0.1.0 "
                f"({error!r})"
            ) from error


def _is_boolean(categories: Iterable[str]) -> bool:
    return set(categories) <= {"true", "false", ""}
