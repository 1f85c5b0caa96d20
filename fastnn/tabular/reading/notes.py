"""What may surprise about the way a table was read, in a few lines however many columns it has."""

from fastnn.tabular.messages import listed


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
