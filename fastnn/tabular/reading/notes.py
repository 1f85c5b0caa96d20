"""What may surprise about the way a table was read, in a few lines however many columns it has."""

_SHOWN = 5  # columns in a line


class ReadNotes:
    """Notes on columns, collected by what they say."""

    def __init__(self) -> None:
        self._columns: dict[str, list[str]] = {}

    def add(self, what: str, column: str) -> None:
        """Note something about a column."""
        self._columns.setdefault(what, []).append(column)

    def lines(self) -> list[str]:
        """The notes: a line for each thing that is said."""
        return [f"{what}: {listed(columns)}" for what, columns in self._columns.items()]


def listed(items: list[str], shown: int = _SHOWN) -> str:
    """The first of many things, and the number of the others."""
    more = len(items) - shown
    return ", ".join(items[:shown]) + (f" and {more:,} more" if more > 0 else "")
