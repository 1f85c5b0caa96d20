"""Which features the columns of a table become, and which columns are left out."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from fastnn._utils import checks
from fastnn.tabular.columns.dates import PARTS
from fastnn.tabular.columns.names import Codes, OneHot, name_feature
from fastnn.tabular.columns.numbers import DatePart, Gap, Number, date_features, number_features
from fastnn.tabular.columns.scaling import SCALINGS
from fastnn.tabular.columns.selection import IDENTIFIER, counts_rows, names_rows, repeats
from fastnn.tabular.messages import cell, listed, option, quoted
from fastnn.tabular.table import DATES, NAME_KINDS, NUMBER_KINDS, UNREAD_DATES, Column

Feature = Number | DatePart | Gap | OneHot | Codes
FEATURES = {kind.__name__: kind for kind in (Number, DatePart, Gap, OneHot, Codes)}


@dataclass(eq=False)
class FeatureOptions:
    """How columns become features; `TableEncoder` describes them."""

    numbers: str = "robust"
    one_hot: int = 9
    min_count: int = 2
    categories: Collection[str] = ()
    keep: Collection[str] = ()
    dates: Collection[str] = tuple(PARTS)
    coerce: Collection[str] = ()

    def __post_init__(self) -> None:
        checks.one_of("numbers", self.numbers, SCALINGS)
        self.one_hot = checks.integer("one_hot", self.one_hot, least=0)
        self.min_count = checks.integer("min_count", self.min_count)
        for name in ("categories", "keep", "dates", "coerce"):
            setattr(self, name, as_names(name, getattr(self, name)))
        for part in self.dates:
            checks.one_of("part of dates", part, PARTS)


def as_names(option: str, names: Collection[str]) -> tuple[str, ...]:
    """The columns that an option lists; a number is the name that ``str`` makes of it."""
    if isinstance(names, str) or not isinstance(names, Collection):
        raise TypeError(f"{option} must be a list of names, such as ['a'], not {names!r}")
    return tuple(map(str, names))


def choose(
    columns: Iterable[Column], rows: np.ndarray | slice, options: FeatureOptions
) -> tuple[tuple[Feature, ...], dict[str, str]]:
    """The features in the order of the inputs, and the reason against each column left out.

    Numbers come first and codes last.
    """
    by_name = {column.name: column for column in columns}
    wanted = {*options.keep, *options.categories}
    free = [column for name, column in by_name.items() if name not in wanted]
    left_out = {column.name: IDENTIFIER for column in free if names_rows(column)}
    found: dict[str, list[Feature]] = {}
    for name, column in by_name.items():
        if name not in left_out:
            found[name] = _features(column, rows, options)
            if not found[name]:
                left_out[name] = _reason(column, rows, options)
    counting = {column.name: IDENTIFIER for column in free if counts_rows(column)}
    if len(left_out) + len(counting) < len(by_name):  # else they are all that there is
        left_out |= counting
    rest = [column for name, column in by_name.items() if name not in left_out]
    again = repeats(rest)
    left_out |= {name: reason for name, reason in again.items() if name not in options.keep}
    features = [f for name, some in found.items() if name not in left_out for f in some]
    return tuple(sorted(features, key=group)), left_out


def group(feature: Feature) -> int:
    """Which part of the inputs a feature belongs to: numbers, others, codes."""
    if isinstance(feature, Number):
        return 0
    return 2 if isinstance(feature, Codes) else 1


def _features(column: Column, rows: np.ndarray | slice, options: FeatureOptions) -> list[Feature]:
    """The features of one column; none where the training rows do not differ."""
    name, keep = column.name, column.name in options.keep
    if name in options.categories or column.kind in NAME_KINDS:
        feature = name_feature(column, rows, options.one_hot, options.min_count, keep)
        return [] if feature is None else [feature]
    if column.kind == DATES:
        return [*date_features(column, rows, options.numbers, tuple(options.dates), keep)]
    coerce = name in options.coerce
    return [*number_features(column, rows, options.numbers, coerce, keep)]


def _reason(column: Column, rows: np.ndarray | slice, options: FeatureOptions) -> str:
    """Why a column makes no feature."""
    if column.kind == DATES and not options.dates:
        return "dates"
    codes, names = column.coded()
    found = {names[code] for code in np.unique(codes[rows])}
    if found <= {""}:
        return "empty"
    return "the same in every row" if len(found) == 1 else f"no name in {options.min_count} rows"


def check_usable(columns: Iterable[Column], in_python: bool) -> None:
    """ValueError where a column is of a type that makes no feature."""
    for column in columns:
        if column.kind == UNREAD_DATES:
            raise ValueError(_unread_date(column, in_python))
        if column.kind not in (*NUMBER_KINDS, *NAME_KINDS, DATES):
            raise ValueError(
                f"column {quoted(column.name)} holds {column.kind}; expected numbers, text, "
                "booleans or dates: convert it, or leave it out with "
                + option("ignore", column.name, in_python)
            )


def _unread_date(column: Column, in_python: bool) -> str:
    """The message about the first date of a column that no moment is known of."""
    names = [column.categories[code] for code in column.values]
    row = next((i for i, name in enumerate(names, 1) if name), 1)
    return (
        f"{cell(column.name, names[row - 1], row)}, and all its cells look like dates, but are in "
        "another form than 2020-12-31 and 23:59: write the year first, "
        f"or say {option('categories', column.name, in_python)} to take all as names, "
        f"or {option('ignore', column.name, in_python)}"
    )


def decisions(features: Iterable[Feature], left_out: dict[str, str]) -> str:
    """What was decided about columns, a line for each kind of decision."""
    kinds: dict[str, dict[str, list[str]]] = {}
    for feature in features:
        kind, detail = _decision(feature)
        kinds.setdefault(kind, {}).setdefault(feature.name, []).extend(detail)
    kinds["left out"] = {name: [reason] for name, reason in left_out.items()}
    return "\n".join(
        f"{kind} {len(columns):,}: "
        + listed([f"{name} ({', '.join(d)})" if d else name for name, d in columns.items()])
        for kind, columns in kinds.items()
        if columns
    )


def _decision(feature: Feature) -> tuple[str, list[str]]:
    """The kind of decision about a feature, and what to say in brackets."""
    if isinstance(feature, DatePart):
        return "dates", [feature.part]
    if isinstance(feature, Number):
        return "numbers", []
    if isinstance(feature, Gap):
        return "gaps", []
    if isinstance(feature, Codes):
        return "codes", [f"{feature.cardinality:,}"]
    return "one-hot", ["−1 or 1" if feature.width == 1 else f"{feature.width}"]
