"""The cure search: variants of a network, trained on a budget of seconds, and ranked.

Every combination of activation, initialisation, normalisation, shortcuts, clipping and optimiser is
a variant; together they are the cure matrix. Successive halving (Jamieson & Talwalkar 2016) trains
all variants for a few steps, then the best third from its initial weights for more, and so on.
"""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from fastnn._kernels import opcodes, philox
from fastnn._utils import checks, progress
from fastnn.data.splits import train_test_split
from fastnn.data.validation import on_host
from fastnn.diagnostics import variants
from fastnn.diagnostics.findings import Cure
from fastnn.errors import DivergenceError
from fastnn.nn.layers import Layer, LayerNorm
from fastnn.nn.protocol import NetworkProtocol
from fastnn.optim.optimizers import SGD, Adam, Optimizer, as_call, as_optimizer

KEPT = "kept"
_KEEP = 3  # one variant of so many is kept for the next round
_FINALISTS = 5
_FEWEST_STEPS = 20  # in which variants differ measurably
_TIMED_STEPS = 30
_SPLIT = 2  # number of the random order

Change = Callable[[Sequence[Layer]], list[Layer]]


def _unchanged(layers: Sequence[Layer]) -> list[Layer]:
    return list(layers)


# Factor → option → what it does to the layers. "kept" is the network as it is.
LAYER_FACTORS: dict[str, dict[str, Change]] = {
    "activation": {
        KEPT: _unchanged,
        **{
            name: (lambda layers, name=name: variants.with_activation(layers, name))
            for name in ("relu", "tanh", "selu", "gelu")
        },
    },
    "init": {
        KEPT: _unchanged,
        "auto": lambda layers: variants.with_init(layers, "auto"),
        "lecun_normal": lambda layers: variants.with_init(layers, "lecun_normal"),
    },
    "normalisation": {
        KEPT: _unchanged,
        "BatchNorm": variants.with_norm,
        "LayerNorm": lambda layers: variants.with_norm(layers, LayerNorm),
    },
    "shortcuts": {KEPT: _unchanged, "Residual": variants.with_shortcuts},
}
# Factor → option → what it does to the optimiser.
FIT_FACTORS: dict[str, dict[str, Callable[[Optimizer], Optimizer]]] = {
    "optimizer": {
        KEPT: lambda optimizer: optimizer,
        "Adam": lambda optimizer: Adam(1e-3),
        "momentum": lambda optimizer: SGD(0.05, momentum=0.9),
    },
    "clipping": {
        KEPT: lambda optimizer: optimizer,
        "clip_norm=1": lambda optimizer: replace(optimizer, clip_norm=1.0),
    },
}
FACTORS = (*LAYER_FACTORS, *FIT_FACTORS)


@dataclass(frozen=True)
class Variant:
    """One variant and how it did.

    Attributes
    ----------
    options : mapping
        Factor → option.
    cure : Cure
        The same as a change that can be applied.
    score : float
        Accuracy on validation data, or R² for values; −inf where training diverged.
    loss : float
        On validation data; infinite where training diverged.
    steps : int
        Mini-batches it was trained for, from its initial weights on: variants dropped early had
        fewer.
    """

    options: Mapping[str, str]
    cure: Cure = field(repr=False)
    score: float = -math.inf
    loss: float = math.inf
    steps: int = 0

    @property
    def changes(self) -> int:
        """In how many factors it differs from the network as it is."""
        return sum(option != KEPT for option in self.options.values())


class CureTable(list[Variant]):
    """Variants, the best first; printing it shows a table.

    Variants of the last round come first, by their score, then those dropped before.

    Attributes
    ----------
    metric : str
        What ``score`` is: "accuracy" or "r2".
    """

    def __init__(self, rows: Sequence[Variant], metric: str):
        super().__init__(rows)
        self.metric = metric

    @property
    def best(self) -> Variant:
        """The variant with the highest score."""
        return self[0]

    @property
    def baseline(self) -> Variant | None:
        """The network as it is, if it was trained."""
        return next((row for row in self if row.changes == 0), None)

    def heatmap(
        self, rows: str = "activation", columns: str = "normalisation"
    ) -> tuple[list[str], list[str], np.ndarray]:
        """The best score of every pair of options of two factors.

        Parameters
        ----------
        rows, columns : str
            Factors: activation, init, normalisation, shortcuts, optimizer, clipping.

        Returns
        -------
        list of str, list of str, ndarray (rows, columns)
            Options, and scores; NaN where no variant of the pair was trained without diverging.
        """
        down, across = (
            self._options(checks.one_of(name, value, FACTORS))
            for name, value in (("rows", rows), ("columns", columns))
        )
        scores = np.full((len(down), len(across)), np.nan)
        for row in self:
            i, j = down.index(row.options[rows]), across.index(row.options[columns])
            if row.score > -math.inf:
                scores[i, j] = np.fmax(scores[i, j], row.score)
        return down, across, scores

    def _options(self, factor: str) -> list[str]:
        return list(
            dict.fromkeys(
                option
                for option in {**LAYER_FACTORS, **FIT_FACTORS}[factor]
                if any(r.options[factor] == option for r in self)
            )
        )

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        table = Table(*FACTORS, self.metric, "loss", "steps")
        for row in self:
            table.add_row(
                *(row.options[factor] for factor in FACTORS),
                f"{row.score:.4f}",
                f"{row.loss:.4g}",
                str(row.steps),
            )
        console = Console(width=140, color_system=None)
        with console.capture() as capture:
            console.print(table)
        return capture.get()

    def __repr__(self) -> str:
        return (
            f"<CureTable of {len(self)} variants, "
            f"the best with {self.metric} {self.best.score:.4f}>"
        )


def cures(
    net: NetworkProtocol,
    X: Any,
    y: Any,
    seconds: float = 20.0,
    validation: Any = 0.2,
    optimizer: str | Optimizer = "adam",
    batch_size: int = 32,
    progress: bool = True,
) -> CureTable:
    """Train variants of a network on a budget, and rank them: what would make it learn better?

    Parameters
    ----------
    net : Network
        Stays as it is; its variants begin with fresh weights of its seed.
    X, y : array-like
        As `Network.fit` takes them.
    seconds : float
        Time to spend, about; a first use also compiles the engine. Where it is too short for all
        variants, those with the fewest changes are tried.
    validation : float or (X, y)
        Data to score on: a fraction of X and y, or other data.
    optimizer : str or Optimizer
        What the network is trained with now.
    batch_size : int
    progress : bool
        Show a bar, if standard error is a terminal.

    Returns
    -------
    CureTable
        The best first: ``table.best.cure.apply(net)`` makes it, ``fit(…, **table.best.cure.fit)``
        trains it. Ctrl-C ends the search and returns what is known.

    Examples
    --------
    >>> import fastnn as fnn
    >>> (X, y), _ = fnn.datasets.mnist_sample()
    >>> net = fnn.mlp([784, 30, 30, 30, 10], activation="sigmoid", init="standard_normal")
    >>> table = fnn.cures(net, X, y, seconds=5, optimizer=fnn.SGD(0.1))
    >>> table.best.score > table.baseline.score
    True
    """
    seconds = checks.number("seconds", seconds, low_open=True)
    batch_size = checks.integer("batch_size", batch_size)
    first_order = as_optimizer(optimizer)
    if not isinstance(first_order, Optimizer):
        raise ValueError("optimizer must step once a mini-batch, which LBFGS does not")
    return _Search(net, X, y, validation, first_order, batch_size).run(
        seconds, checks.boolean("progress", progress)
    )


def all_variants(net: NetworkProtocol, optimizer: Optimizer) -> list[Variant]:
    """Every variant that differs from those before it, those with the fewest changes first."""
    found: dict[str, Variant] = {}
    factors = {**LAYER_FACTORS, **FIT_FACTORS}
    for names in sorted(
        itertools.product(*factors.values()), key=lambda names: sum(name != KEPT for name in names)
    ):
        options = dict(zip(factors, names, strict=True))
        made = variant(net, optimizer, options)
        found.setdefault(repr((made.cure.change_layers(net.layers), made.cure.fit)), made)
    return list(found.values())


def variant(net: NetworkProtocol, optimizer: Optimizer, options: Mapping[str, str]) -> Variant:
    """The variant of these options, one for each of `FACTORS`."""
    changes = [LAYER_FACTORS[factor][options[factor]] for factor in LAYER_FACTORS]
    changed = reduce(
        lambda current, factor: FIT_FACTORS[factor][options[factor]](current),
        FIT_FACTORS,
        optimizer,
    )

    def layers(given: Sequence[Layer]) -> list[Layer]:
        return reduce(lambda stack, change: change(stack), changes, list(given))

    words = [
        f"{factor} {option}"
        for factor, option in options.items()
        if option != KEPT and factor in LAYER_FACTORS
    ]
    return Variant(
        options,
        Cure(", ".join([*words, f"optimizer={as_call(changed)}"]), layers, {"optimizer": changed}),
    )


class _Search:
    """The data of a search, and whether it was interrupted."""

    def __init__(
        self,
        net: NetworkProtocol,
        X: Any,
        y: Any,
        validation: Any,
        optimizer: Optimizer,
        batch_size: int,
    ):
        if net.backend == "cuda":  # rows are picked here, a few for each training
            X, y = on_host(X, "X"), on_host(y, "y")
        if isinstance(validation, tuple | list):
            X, y = np.asarray(X), np.asarray(y)
            # Short trainings take the first rows.
            order = philox.permutation(net.seed, opcodes.STREAM_SPLIT, _SPLIT, len(X))
            self.X, self.y, self.validation = X[order], y[order], tuple(validation)
        else:
            if validation is None:
                raise TypeError(
                    "validation must be a fraction of the data, such as 0.2, or a pair (X, y); "
                    "got None"
                )
            fraction = checks.number(
                "validation", validation, 0.0, 1.0, low_open=True, high_open=True
            )
            self.X, X_val, self.y, y_val = train_test_split(X, y, test_size=fraction, seed=net.seed)
            self.validation = X_val, y_val
        self.net, self.optimizer, self.batch_size = net, optimizer, min(batch_size, len(self.X))
        scores = net.evaluate(*self.validation)  # a mistake in the data shows here
        self.metric = next(name for name in scores if name != "loss")
        self.interrupted = False

    def run(self, seconds: float, show: bool) -> CureTable:
        """Train the variants in rounds, and rank them."""
        candidates = all_variants(self.net, self.optimizer)
        each, step = self._time(candidates[0])
        deadline = time.perf_counter() + seconds
        affordable = int(seconds / _rounds(len(candidates)) / (each + _FEWEST_STEPS * step))
        candidates = candidates[: max(affordable, _FINALISTS)]
        rounds = _rounds(len(candidates))
        steps, ranked = 0, []
        with progress.counter(show, "variants", _trainings(len(candidates))) as advance:
            for left in range(rounds, 0, -1):
                seconds_each = (deadline - time.perf_counter()) / left / len(candidates)
                steps = max(_FEWEST_STEPS, steps + 1, int((seconds_each - each) / step))
                done = self._train_all(candidates, steps, deadline, not ranked, advance)
                reached = {id(variant.options) for variant in done}
                ranked = sorted(done, key=lambda v: (-v.score, v.loss)) + [
                    v for v in ranked if id(v.options) not in reached
                ]
                if len(done) < len(candidates):
                    break
                # The network as it is comes first, and stays for the comparison.
                candidates = [
                    done[0],
                    *sorted(done[1:], key=lambda v: v.loss)[
                        : max(_FINALISTS, len(done) // _KEEP) - 1
                    ],
                ]
        return CureTable(ranked, self.metric)

    def _train_all(
        self,
        candidates: Sequence[Variant],
        steps: int,
        deadline: float,
        at_least_one: bool,
        advance: Callable[[], None],
    ) -> list[Variant]:
        """Train the candidates in order until the deadline or Ctrl-C."""
        done: list[Variant] = []
        for variant in candidates:
            may_stop = bool(done) or not at_least_one
            if may_stop and (self.interrupted or time.perf_counter() > deadline):
                break
            trained = self._train(variant, steps)
            if may_stop and self.interrupted:
                break  # cut short: its score would say less than its steps
            done.append(trained)
            advance()
        return done

    def _time(self, variant: Variant) -> tuple[float, float]:
        """Seconds to make a variant and score it, and seconds a step."""
        self._train(variant, 1)  # loads the engine
        times = []
        for steps in (1, 1, 1 + _TIMED_STEPS, 1 + _TIMED_STEPS):
            started = time.perf_counter()
            self._train(variant, steps)
            times.append(time.perf_counter() - started)
        each, more = min(times[:2]), min(times[2:])  # whatever else runs on the machine only adds
        return each, max((more - each) / _TIMED_STEPS, 1e-6)

    def _train(self, variant: Variant, steps: int) -> Variant:
        net, n = variant.cure.apply(self.net), len(self.X)
        epochs, rest = divmod(steps * self.batch_size, n)
        arguments = {"batch_size": self.batch_size, "progress": False, **variant.cure.fit}
        try:
            for part, times in ((n, epochs), (rest, 1)):
                if part and times and not self.interrupted:
                    history = net.fit(self.X[:part], self.y[:part], times, **arguments)
                    self.interrupted |= history.stopped == "interrupted"
            scores = net.evaluate(*self.validation)
        except DivergenceError:
            return replace(variant, score=-math.inf, loss=math.inf, steps=steps)
        return replace(variant, score=scores[self.metric], loss=scores["loss"], steps=steps)


def _rounds(n: int) -> int:
    """How many rounds n candidates go through: the last has only the finalists."""
    return 1 if n <= _FINALISTS else 1 + _rounds(max(_FINALISTS, n // _KEEP))


def _trainings(n: int) -> int:
    """How many trainings these rounds come to."""
    return n if n <= _FINALISTS else n + _trainings(max(_FINALISTS, n // _KEEP))
