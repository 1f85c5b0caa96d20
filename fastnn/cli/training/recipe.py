"""The networks of a recipe, for a data file."""

import time

from fastnn import engines
from fastnn.cli.options import TrainOptions
from fastnn.cli.output import count
from fastnn.cli.training.data import TrainingSets
from fastnn.cli.training.network import engine_in_words
from fastnn.cli.training.result import Result
from fastnn.estimators.bagging import Rows
from fastnn.estimators.fitting import fit_model
from fastnn.estimators.options import TableOptions


def train_recipe(options: TrainOptions, settings: TableOptions, sets: TrainingSets) -> Result:
    """Train the networks of the recipe on the training rows."""
    assert sets.encoder is not None
    backend = engines.choose(options.backend)
    options.note(f"recipe {settings.recipe}; {options.dtype}; {engine_in_words(backend)}")
    started = time.perf_counter()
    validation = None if sets.validation is None else Rows(*sets.validation)
    model, bag = fit_model(sets.encoder, Rows(*sets.training), settings, validation)
    for line in bag.notes:
        options.note(f"note: {line}")
    predictor = model.ensemble()
    return Result(
        predictor=predictor,
        model=model,
        histories=list(bag.histories),
        stopped="interrupted" if bag.interrupted else None,
        seconds=time.perf_counter() - started,
        after=f"by {count(len(predictor), 'network')}",
    )
