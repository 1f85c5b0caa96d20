"""Several networks of one recipe, each validated on rows that it did not train on."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastnn._utils import progress
from fastnn.callbacks import EarlyStopping, TimeLimit
from fastnn.ensemble import Ensemble
from fastnn.errors import DivergenceError
from fastnn.estimators.options import TableOptions
from fastnn.metrics import HIGHER_IS_BETTER
from fastnn.network import Network
from fastnn.recipes.plan import Plan, Problem, Recipe, steps
from fastnn.training.history import History
from fastnn.training.interrupts import ctrl_c_sets_flag

_FOR_EVER = 1 << 62  # epochs
_PILOT_SHARE = 0.1  # of the time of one network, to measure its speed
_SHORTEST = 1e-3  # seconds
_FEWEST_EPOCHS = 10  # that a network of several should have: fewer networks come first

Fold = tuple[np.ndarray, np.ndarray]  # rows to train on, and to validate with


@dataclass(frozen=True, eq=False)
class Rows:
    """Encoded rows: inputs (n, inputs), class numbers or standardised values (n,), weights (n,)."""

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: np.ndarray) -> "Rows":
        """A copy of some rows."""
        return Rows(
            self.X[rows], self.y[rows], None if self.weights is None else self.weights[rows]
        )


@dataclass(eq=False)
class Bag:
    """Networks that were trained, and what they say of rows that they did not train on.

    Attributes
    ----------
    ensemble : Ensemble
    histories : list of History
        One of each training with validation.
    predictions : ndarray (n, outputs)
        Mean prediction for each validation row; NaN where no network was validated on it.
    epochs : list of int
        The best epoch of each, from 1.
    notes : list of str
        What a user should know.
    interrupted : bool
        Whether Ctrl-C ended the work early.
    """

    ensemble: Ensemble
    histories: list[History]
    predictions: np.ndarray
    epochs: list[int]
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False


def fit_bag(
    recipe: Recipe,
    problem: Problem,
    rows: Rows,
    folds: Sequence[Fold],
    validation: Rows | None,
    options: TableOptions,
    seconds: float | None,
) -> Bag:
    """Train a network for each fold.

    Parameters
    ----------
    recipe : Recipe
    problem : Problem
        Its ``rows`` are replaced by those of each fold.
    rows : Rows
    folds : sequence of Fold
        Where ``validation`` is given, only their number and training rows matter.
    validation : Rows or None
        Rows of their own to validate with.
    options : TableOptions
        Its ``seed`` is that of the first network; the others count on from it.
    seconds : float or None
        Of ``options.time_limit``, those for these networks.

    Raises
    ------
    DivergenceError
        See `Network.fit`.
    KeyboardInterrupt
        Before there was a network.
    """
    trainer = _Trainer(recipe, problem, rows, validation, options, seconds)
    with (
        ctrl_c_sets_flag(trainer),
        progress.counter(options.progress, "networks", len(folds)) as advance,
    ):
        trainer.train(folds, advance)
        bag = trainer.bag()
        if options.refit and not trainer.interrupted:
            bag.ensemble = trainer.refitted()
    bag.interrupted = trainer.interrupted
    return bag


class _Trainer:
    """The networks so far, and the time that is left."""

    def __init__(
        self,
        recipe: Recipe,
        problem: Problem,
        rows: Rows,
        validation: Rows | None,
        options: TableOptions,
        seconds: float | None,
    ):
        self.recipe, self.problem, self.rows = recipe, problem, rows
        self.validation, self.options, self.seconds = validation, options, seconds
        self.networks: list[Network] = []
        self.histories: list[History] = []
        self.best: list[int] = []
        self.notes: list[str] = []
        self.interrupted: bool = False  # may be set at any time: see `ctrl_c_sets_flag`
        scored = rows if validation is None else validation
        self._sums = np.zeros((len(scored), problem.outputs))
        self._counts = np.zeros(len(scored), np.int64)
        self._epochs = options.epochs
        self._started = time.perf_counter()

    # --- with validation --------------------------------------------------------------------------

    def train(self, folds: Sequence[Fold], advance: Callable[[], None]) -> None:
        """Train a network for each fold, or for fewer where the time is short."""
        count = len(folds)
        if self.seconds is not None:
            count = self._fit_into_time(folds[0], count)
        for number, fold in enumerate(folds[:count]):
            if self.interrupted:
                break
            self._train_one(fold, number, count - number)
            advance()
        if not self.networks:
            raise KeyboardInterrupt
        if self.interrupted:
            self.notes.append(
                f"interrupted: {len(self.networks)} of {len(folds)} networks are kept"
            )
        elif count < len(folds):
            self.notes.append(
                f"{count} of {len(folds)} networks were trained: {self._limit_in_words()}"
            )

    def _train_one(self, fold: Fold, number: int, remaining: int) -> None:
        """Train a network and keep it, unless it is no good beside those that there are."""
        plan = self._plan(len(fold[0]))
        net = self._network(plan, number)
        patience = _FOR_EVER if plan.patience is None else plan.patience
        monitor = f"val_{self.problem.metric}"
        callbacks: list[Any] = [EarlyStopping(monitor, patience, keep_ties=True)]
        if self.seconds is not None:
            callbacks.append(TimeLimit(max(self._seconds_left() / remaining, _SHORTEST)))
        try:
            history = self._fit(net, plan, callbacks, self._held_out(fold))
        except DivergenceError as error:
            if not self.networks:
                raise
            self.notes.append(f"network {number + 1} is left out: {error}")
            return
        if history.stopped == "interrupted":
            self.interrupted = True
            if self.networks:  # which had all their epochs: it would make their average worse
                return
        self._keep(net, fold, history, monitor)
        if len(history["loss"]) == 1 and (history.stopped or "").startswith("the time limit"):
            self.notes.append(
                f"network {number + 1} was stopped in its first epoch, as "
                f"{self._limit_in_words()}; it keeps what it had learnt"
            )

    def _keep(self, net: Network, fold: Fold, history: History, monitor: str) -> None:
        places = fold[1] if self.validation is None else slice(None)
        X = self.rows.X if self.validation is None else self.validation.X
        self._sums[places] += net.predict(X[places])
        self._counts[places] += 1
        self.networks.append(_finished(net))
        self.histories.append(history)
        self.best.append(_best_epoch(history, monitor))

    def bag(self) -> Bag:
        """What has been trained."""
        with np.errstate(invalid="ignore"):  # rows that no network was validated on
            predictions = self._sums / self._counts[:, None]
        return Bag(Ensemble(self.networks), self.histories, predictions, self.best, self.notes)

    # --- on all rows ------------------------------------------------------------------------------

    def refitted(self) -> Ensemble:
        """As many networks, trained on all rows for as many epochs as was best in the mean."""
        plan = self._plan(len(self.rows))  # its schedules end where they did before
        epochs = min(max(1, round(float(np.mean(self.best)))), plan.epochs)
        networks, count = [], len(self.networks)
        for number in range(count):
            net, callbacks = self._network(plan, number), list[Any]()
            if self.seconds is not None:
                seconds = self._seconds_left() / (count - number)
                callbacks.append(TimeLimit(max(seconds, _SHORTEST)))
            history = self._fit(net, replace(plan, epochs=epochs), callbacks, None)
            self.interrupted |= history.stopped == "interrupted"
            if history.stopped:
                self.notes.append(
                    f"not trained on all rows: {history.stopped}; "
                    "the networks of the folds are kept"
                )
                return Ensemble(self.networks)
            networks.append(_finished(net))
        return Ensemble(networks)

    # --- the time ---------------------------------------------------------------------------------

    def _fit_into_time(self, fold: Fold, count: int) -> int:
        """Choose the number of epochs, and return that of networks, by the speed of a pilot."""
        plan = self._plan(len(fold[0]))
        net, share = self._network(plan, 0), self._seconds_left() / count
        limit = TimeLimit(max(_PILOT_SHARE * share, _SHORTEST))
        started = time.perf_counter()
        history = self._fit(net, replace(plan, epochs=1), [limit], self._held_out(fold))
        self.interrupted |= history.stopped == "interrupted"
        whole = steps(replace(self.problem, rows=len(fold[0])), 1, plan.batch_size)
        epoch = (time.perf_counter() - started) * whole / max(net.state.step, 1)
        left = self._seconds_left() / (1 + self.options.refit)
        fewest = min(_FEWEST_EPOCHS, plan.epochs)
        count = int(np.clip(left / (fewest * epoch), 1, count))
        self._epochs = int(np.clip(left / (count * epoch), 1, plan.epochs))
        if self._epochs < plan.epochs:
            self.notes.append(
                f"at most {self._epochs} epochs instead of {plan.epochs}: {self._limit_in_words()}"
            )
        return count

    def _seconds_left(self) -> float:
        assert self.seconds is not None
        return self.seconds - (time.perf_counter() - self._started)

    def _limit_in_words(self) -> str:
        return f"the time limit is {self.options.time_limit:g} s"

    # --- one network ------------------------------------------------------------------------------

    def _plan(self, rows: int) -> Plan:
        problem = replace(self.problem, rows=rows, batch_size=self.options.batch_size)
        return self.recipe.plan(problem, self._epochs)

    def _network(self, plan: Plan, number: int) -> Network:
        return Network(
            plan.layers,
            inputs=self.problem.inputs,
            loss=plan.loss,
            dtype=self.options.dtype,
            backend=self.options.backend,
            seed=(self.options.seed + number) % (1 << 64),
        )

    def _held_out(self, fold: Fold) -> Any:
        """What `Network.fit` takes for validation."""
        given = self.validation
        if given is None:
            return fold[1]
        weights = () if given.weights is None else (given.weights,)
        return (given.X, given.y, *weights)

    def _fit(self, net: Network, plan: Plan, callbacks: Sequence[Any], validation: Any) -> History:
        return net.fit(
            self.rows.X,
            self.rows.y,
            plan.epochs,
            plan.batch_size,
            plan.optimizer,
            validation,
            sample_weight=self.rows.weights,
            class_weight=self.options.class_weight,
            callbacks=callbacks,
            metrics=[name for name in (self.problem.metric, "accuracy") if name != "loss"],
            progress=False,
            **plan.options,
        )


def _finished(net: Network) -> Network:
    """The network without what only training needs: the optimiser's state and the workspace."""
    return net.copy()


def _best_epoch(history: History, monitor: str) -> int:
    """From 1; of equal ones the last."""
    scores = np.array(history[monitor][::-1], np.float64)
    if monitor.removeprefix("val_") in HIGHER_IS_BETTER:
        scores = -scores
    if np.isnan(scores).all():
        return len(scores)
    return len(scores) - int(np.nanargmin(scores))
