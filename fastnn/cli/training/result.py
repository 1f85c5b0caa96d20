"""What a training of ``fastnn train`` gives, and the files and lines that tell it."""

from dataclasses import dataclass
from typing import Any

import click

from fastnn._version import __version__
from fastnn.cli.options import TrainOptions
from fastnn.cli.output import printable, score, write_json
from fastnn.cli.training import scores
from fastnn.cli.training.data import TrainingSets
from fastnn.ensemble import Ensemble
from fastnn.errors import DivergenceError, HistoryProtocol
from fastnn.estimators.scoring import table_scores
from fastnn.estimators.table_model import TableModel
from fastnn.network import Network


@dataclass(frozen=True, eq=False)
class Result:
    """What was trained.

    Attributes
    ----------
    predictor : Network or Ensemble
        What is saved.
    model : TableModel or None
        Of a file.
    histories : list of History
        One for each network.
    stopped : str or None
        Why training ended before its last epoch.
    seconds : float
    after : str
        What was done, for the line of the result.
    divergence : DivergenceError or None
    """

    predictor: Network | Ensemble
    model: TableModel | None
    histories: list[HistoryProtocol]
    stopped: str | None
    seconds: float
    after: str
    divergence: DivergenceError | None = None


def report(result: Result, sets: TrainingSets, options: TrainOptions, on_stdout: bool) -> None:
    """Score, write ``--metrics``, and print the result, which is on disk already.

    Raises
    ------
    DivergenceError
        The one of the training, if it diverged.
    """
    what, first, finer = _scores(result, sets)
    if options.metrics is not None:
        figures = _figures(result) | {f"{what}_{name}": value for name, value in first.items()}
        write_json(options.metrics, figures | scores.figures(finer))
    ending = f"; {result.stopped}" if result.stopped else ""
    saved = f"saved to {options.out}" if options.out else "not saved: --out MODEL does that"
    if result.divergence is not None:
        d = result.divergence
        raise DivergenceError(f"{d}; {saved}", d.epoch, d.step, d.history)
    click.echo(
        printable(
            f"{what.replace('_', ' ')} {score(first)} {result.after} in {result.seconds:.1f} s "
            f"({result.predictor.backend}{ending}); {saved}"
        ),
        err=on_stdout,
    )
    if finer:
        own, constant = finer[what], finer["baseline"]
        options.note(scores.in_words(what.replace("_", " "), own, constant))
        for line in scores.remarks(own, constant, _rows_scored(sets)):
            options.note(f"note: {line}")


def _scores(
    result: Result, sets: TrainingSets
) -> tuple[str, dict[str, float], dict[str, scores.Scores]]:
    """The name of the rows that are scored, the first scores, and the finer ones of a table."""
    model = result.model
    if model is None:
        assert sets.test is not None
        return "test", result.predictor.evaluate(*sets.test), {}
    y_train = sets.training[1]
    if sets.test is None:
        y = sets.training[1] if sets.validation is None else sets.validation[1]
        finer = {"validation": model.scores, "baseline": scores.baseline(model, y_train, y)}
        return "validation", model.scores, finer
    own = table_scores(model, *sets.test)
    finer = {"test": own, "baseline": scores.baseline(model, y_train, sets.test[1])}
    return "test", own, finer


def _rows_scored(sets: TrainingSets) -> int:
    scored = next(s for s in (sets.test, sets.validation, sets.training) if s is not None)
    return len(scored[1])


def _figures(result: Result) -> dict[str, Any]:
    """What ``--metrics`` writes but for the scores; curves are those of the first network."""
    net = result.predictor if isinstance(result.predictor, Network) else result.predictor[0]
    networks = [net] if isinstance(result.predictor, Network) else list(result.predictor)
    curves = [_curves(history) for history in result.histories]
    several = [{"epochs": net.epochs, **own} for net, own in zip(networks, curves, strict=True)]
    return {
        "fastnn": __version__,
        "backend": net.backend,
        "parameters": result.predictor.n_parameters,
        "epochs": net.epochs,
        "stopped": result.stopped,
        "seconds": result.seconds,
        **curves[0],
        **({"networks": several} if len(several) > 1 else {}),
    }


def _curves(history: HistoryProtocol) -> dict[str, list[float]]:
    return {
        ("epoch_seconds" if name == "seconds" else name): values for name, values in history.items()
    }
