"""pyarrow, which is not installed everywhere."""

from types import ModuleType
from typing import Any


def pyarrow(wanted_for: str) -> ModuleType:
    """The package, or an ImportError that says how to install it."""
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            f'reading {wanted_for} needs pyarrow: pip install "fastnn[data]"'
        ) from error
    return pyarrow


def compute() -> Any:
    """The module of functions on columns, which type checkers cannot see into."""
    import pyarrow.compute

    return pyarrow.compute
