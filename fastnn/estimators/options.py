"""How the networks of a table are trained."""

from dataclasses import dataclass
from typing import Any

from fastnn._utils import checks
from fastnn.metrics import METRICS
from fastnn.recipes import RECIPES, recipe
from fastnn.tabular.encoder import TableEncoder

THRESHOLDS = ("accuracy", "balanced_accuracy", "f1")


@dataclass(frozen=True)
class TableOptions:
    """How a `TableModel` is trained; `TabularClassifier` describes each field."""

    recipe: str = "auto"
    n_folds: int | None = None
    metric: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    time_limit: float | None = None
    refit: bool = False
    calibrate: bool = True
    threshold: str | float | None = None
    class_weight: Any = None
    quantiles: bool | None = None
    seed: int = 0
    dtype: str = "float32"
    backend: str = "auto"
    progress: bool = False

    def __post_init__(self) -> None:
        checks.one_of("recipe", self.recipe, RECIPES)
        for name in ("n_folds", "epochs", "batch_size"):
            if getattr(self, name) is not None:
                self._keep(name, checks.integer(name, getattr(self, name)))
        for name in ("refit", "calibrate", "progress"):
            self._keep(name, checks.boolean(name, getattr(self, name)))
        if self.quantiles is not None:
            self._keep("quantiles", checks.boolean("quantiles", self.quantiles))
        if self.metric is not None:
            checks.one_of("metric", self.metric, METRICS)
        if self.time_limit is not None:
            checks.number("time_limit", self.time_limit, low_open=True)
        if isinstance(self.threshold, str):
            checks.one_of("threshold", self.threshold, THRESHOLDS)
        elif self.threshold is not None:
            checks.number("threshold", self.threshold, 0.0, 1.0)
        self._keep("seed", checks.integer("random_state", self.seed, least=0))

    def _keep(self, name: str, value: Any) -> None:
        """Keep a checked value: NumPy's scalars become Python's."""
        object.__setattr__(self, name, value)

    def encoder(self, **options: Any) -> TableEncoder:
        """An encoder as the recipe wants it."""
        chosen = recipe(self.recipe)
        own = {"numbers": chosen.scaling, "one_hot": chosen.one_hot, "dtype": self.dtype}
        return TableEncoder(**own | options)
