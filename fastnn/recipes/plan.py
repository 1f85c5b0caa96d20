"""What a recipe is: from the shape of a table to layers, optimiser and epochs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastnn.nn.layers import Embedding, Layer
from fastnn.nn.losses import Loss
from fastnn.optim.optimizers import Optimizer

CLASSIFICATION, REGRESSION = "classification", "regression"
METRICS = {CLASSIFICATION: "log_loss", REGRESSION: "rmse"}


@dataclass(frozen=True)
class Problem:
    """What a recipe may look at: the shape of the task, not its numbers.

    Attributes
    ----------
    task : str
        "classification" or "regression".
    rows : int
        That one network trains on.
    inputs : int
        Columns of the matrix: first numbers, then gaps and one-hot columns, last codes.
    numbers : int
        How many of them are numbers.
    cardinalities : tuple of int
        Different codes of each column of codes.
    outputs : int
        Classes, or 1.
    metric : str
        Of the validation rows, or "loss": it chooses the best epoch; of equal ones the last.
    batch_size : int or None
        The user's own.
    """

    task: str
    rows: int
    inputs: int
    numbers: int
    cardinalities: tuple[int, ...]
    outputs: int
    metric: str
    batch_size: int | None = None

    @property
    def classifies(self) -> bool:
        return self.task == CLASSIFICATION


@dataclass(frozen=True)
class Plan:
    """How one network is made and trained.

    Attributes
    ----------
    layers : list of Layer
    loss : Loss
    optimizer : Optimizer
        Its schedules end with the last epoch.
    epochs, batch_size : int
    patience : int or None
        Epochs without a better validation score that are tolerated; None means all.
    options : dict
        Further arguments of `Network.fit`.
    """

    layers: Sequence[Layer]
    loss: Loss
    optimizer: Optimizer
    epochs: int
    batch_size: int
    patience: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A way to train networks on tables.

    Attributes
    ----------
    plan : function of a `Problem` and a number of epochs, or None for the recipe's own
    folds : function of the number of rows
        Networks that are averaged, each validated on rows that it did not train on.
    metrics : mapping
        By task, what the best epoch is chosen by.
    scaling : str
        Of numbers; see `fastnn.tabular.TableEncoder`.
    one_hot : int
        The most names of a column that become one-hot columns.
    """

    plan: Callable[[Problem, int | None], Plan]
    folds: Callable[[int], int] = lambda rows: 1
    metrics: Mapping[str, str] = field(default_factory=lambda: METRICS)
    scaling: str = "robust"
    one_hot: int = 9


def steps(problem: Problem, epochs: int, batch_size: int, drop_last: bool = False) -> int:
    """Steps of a whole training."""
    full, rest = divmod(problem.rows, min(batch_size, problem.rows))
    return epochs * (full + (rest > 0 and not drop_last))


def embedding(problem: Problem, size: int) -> list[Layer]:
    """The layer that turns codes into vectors, if there are codes."""
    return [Embedding(problem.cardinalities, size)] if problem.cardinalities else []


def batch_size_by_rows(rows: int) -> int:
    """32 to 1,024: larger for more rows, as pytabkit has it for TabM."""
    for limit, size in _BATCH_SIZES:
        if rows < limit:
            return size
    return 1024


_BATCH_SIZES = ((2_800, 32), (4_500, 64), (6_400, 128), (32_000, 256), (108_000, 512))
