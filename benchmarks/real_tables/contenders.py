"""The contenders, each in its defaults.

A contender is a function of the number of threads. It loads its library and returns a function
that trains on a `Problem`. That one returns a function that predicts the test rows: probabilities
(n, classes), or values (n,). Seeds are 0.

pandas is imported late: the time that a library takes to load includes what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from real_tables import sets

if TYPE_CHECKING:
    import pandas as pd

_MISSING = "missing"  # the category of a gap, for libraries that take text alone
_PROBABILITY = "probability_"

Predict = Callable[[], np.ndarray]
Train = Callable[["Problem"], Predict]


@dataclass(frozen=True, eq=False)
class Problem:
    """A table whose rows are split in two.

    Attributes
    ----------
    task : str
    X, X_test : DataFrame
        Numbers and categories; training and validation together, and the test.
    y, y_test : ndarray
        Class numbers, or values.
    classes : tuple of str
        The names of the class numbers; none for a regression.
    target : str
        The name of the target column.
    files : tuple of Path
        The same rows as CSV files, to train on with the target and to predict without.
    """

    task: str
    X: pd.DataFrame
    X_test: pd.DataFrame
    y: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    target: str
    files: tuple[Path, Path]

    @property
    def categories(self) -> list[str]:
        """The columns that hold no numbers."""
        return list(self.X.select_dtypes("category"))


def problem(name: str, number: int, folder: Path) -> Problem:
    """A split of one of the sets; its CSV files are written to the folder."""
    frame, target, task = sets.load(name)
    training, validation, test = sets.split(target, task, number)
    rows = np.sort(np.concatenate([training, validation]))  # in the order of the table
    classes, y = (), target.to_numpy()
    if task == sets.CLASSIFICATION:
        names, y = np.unique(y.astype(str), return_inverse=True)
        classes = tuple(map(str, names))
    files = folder / "training.csv", folder / "test.csv"
    frame.assign(**{str(target.name): target}).iloc[rows].to_csv(files[0], index=False)
    frame.iloc[test].to_csv(files[1], index=False)
    return Problem(
        task,
        frame.iloc[rows].reset_index(drop=True),
        frame.iloc[test].reset_index(drop=True),
        y[rows],
        y[test],
        classes,
        str(target.name),
        files,
    )


# --- fastnn ---------------------------------------------------------------------------------------


def fastnn(threads: int) -> Train:
    """`TabularClassifier` and `TabularRegressor`."""
    import fastnn as fnn

    fnn.set_num_threads(threads)
    return _estimator(
        fnn.TabularClassifier, fnn.TabularRegressor, lambda kind, problem: kind(random_state=0)
    )


def fastnn_train(threads: int) -> Train:
    """The commands ``fastnn train`` and ``fastnn predict``, with no rows held out to test.

    They run in this process, so that loading is timed apart, as it is for the others.
    """
    import fastnn as fnn
    from fastnn.cli import main

    fnn.set_num_threads(threads)

    def run(*words: object) -> None:
        status = main([str(word) for word in words])
        if status:
            raise SystemExit(status)  # the command has said why

    def train(problem: Problem) -> Predict:
        training, test = problem.files
        model, predictions = training.with_name("model.fastnn"), training.with_name("out.csv")
        run("train", training, "--target", problem.target, "--out", model, "--all-rows")

        def predict() -> np.ndarray:
            run("predict", model, test, "--out", predictions)
            return parse_predictions(predictions, problem.classes)

        return predict

    return train


def parse_predictions(path: Path, classes: tuple[str, ...]) -> np.ndarray:
    """What ``fastnn predict`` wrote.

    Parameters
    ----------
    path : Path
        A CSV file.
    classes : tuple of str
        The classes in the order wanted; none for a regression.

    Returns
    -------
    ndarray (n, classes) or (n,)
        The columns ``probability_…`` in that order, or the column ``prediction``. A class without
        a column has the probability 0.

    Raises
    ------
    ValueError
        The file has no such column, or one of a class that is not among those given.
    """
    import pandas as pd

    table = pd.read_csv(path)
    if not classes:
        if "prediction" not in table:
            raise ValueError(f"no column 'prediction' among {', '.join(table)}")
        return table["prediction"].to_numpy(float)
    found = {
        name.removeprefix(_PROBABILITY): table[name].to_numpy(float)
        for name in table
        if name.startswith(_PROBABILITY)
    }
    if not found or not set(found) <= set(classes):
        raise ValueError(
            f"expected {_PROBABILITY}… of {', '.join(classes)}; found {', '.join(table)}"
        )
    return np.stack([found.get(name, np.zeros(len(table))) for name in classes], axis=1)


# --- the others -----------------------------------------------------------------------------------


def sklearn(threads: int) -> Train:
    """`MLPClassifier` and `MLPRegressor` behind the usual pipeline.

    Gaps in numbers become the median, numbers are standardised, and so are values to predict:
    without that, prices are out of reach. Categories are one-hot with gaps as one more. `processes`
    sets the threads of BLAS.
    """
    from sklearn.compose import (
        TransformedTargetRegressor,
        make_column_selector,
        make_column_transformer,
    )
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    def make(kind, problem):
        numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        columns = make_column_transformer(
            (numbers, make_column_selector(dtype_include="number")),
            (one_hot, make_column_selector(dtype_include="category")),
        )
        model = make_pipeline(columns, kind(random_state=0))
        return (
            model
            if problem.classes
            else TransformedTargetRegressor(model, transformer=StandardScaler())
        )

    return _estimator(MLPClassifier, MLPRegressor, make)


def hgb(threads: int) -> Train:
    """Histogram gradient boosting of scikit-learn; OpenMP's threads are set by `processes`."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    return _estimator(
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
        lambda kind, problem: kind(categorical_features="from_dtype", random_state=0),
    )


def lightgbm(threads: int) -> Train:
    """LightGBM, which takes pandas' categories as they are."""
    from lightgbm import LGBMClassifier, LGBMRegressor

    return _estimator(
        LGBMClassifier,
        LGBMRegressor,
        lambda kind, problem: kind(n_jobs=threads, random_state=0, verbose=-1),
    )


def xgboost(threads: int) -> Train:
    """XGBoost with its own treatment of categories."""
    from xgboost import XGBClassifier, XGBRegressor

    return _estimator(
        XGBClassifier,
        XGBRegressor,
        lambda kind, problem: kind(enable_categorical=True, n_jobs=threads, random_state=0),
    )


def catboost(threads: int) -> Train:
    """CatBoost; gaps in categories become a category, as it takes text alone."""
    from catboost import CatBoostClassifier, CatBoostRegressor

    return _estimator(
        CatBoostClassifier,
        CatBoostRegressor,
        lambda kind, problem: kind(
            cat_features=problem.categories,
            thread_count=threads,
            random_seed=0,
            verbose=False,
            allow_writing_files=False,
        ),
        _gaps_as_text,
    )


def realmlp(threads: int) -> Train:
    """RealMLP-TD of pytabkit on the CPU; gaps in numbers, which it refuses, become the median."""
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    return _pytabkit(RealMLP_TD_Classifier, RealMLP_TD_Regressor, threads)


def tabm(threads: int) -> Train:
    """TabM of pytabkit, as `realmlp`."""
    from pytabkit import TabM_D_Classifier, TabM_D_Regressor

    return _pytabkit(TabM_D_Classifier, TabM_D_Regressor, threads)


def _pytabkit(classifier: type, regressor: type, threads: int) -> Train:
    return _estimator(
        classifier,
        regressor,
        lambda kind, problem: kind(device="cpu", n_threads=threads, random_state=0),
        _gaps_as_median,
    )


def _estimator(
    classifier: type,
    regressor: type,
    make: Callable[[type, Problem], Any],
    prepare: Callable[[pd.DataFrame, Problem], pd.DataFrame] = lambda frame, problem: frame,
) -> Train:
    """A contender with scikit-learn's interface.

    Parameters
    ----------
    classifier, regressor : type
    make : callable
        Makes an estimator of one of them for a problem.
    prepare : callable
        Changes a frame to what the library takes; its time counts.
    """

    def train(problem: Problem) -> Predict:
        model = make(classifier if problem.classes else regressor, problem)
        model.fit(prepare(problem.X, problem), problem.y)

        def predict() -> np.ndarray:
            X = prepare(problem.X_test, problem)
            return np.asarray(model.predict_proba(X) if problem.classes else model.predict(X))

        return predict

    return train


def _gaps_as_text(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    names = problem.categories
    return frame.assign(**frame[names].astype(object).fillna(_MISSING))


def _gaps_as_median(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    return frame.fillna(problem.X.median(numeric_only=True))


# --- all of them ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    """A function of this module, and the packages that it needs beside pandas."""

    load: Callable[[int], Train]
    packages: tuple[str, ...]
    fast: bool = True  # takes part in a quick run
    by_default: bool = True


CONTENDERS = {
    "fastnn": Contender(fastnn, ("fastnn", "pyarrow")),
    "fastnn-train": Contender(fastnn_train, ("fastnn", "pyarrow"), by_default=False),
    "sklearn": Contender(sklearn, ("sklearn",)),
    "hgb": Contender(hgb, ("sklearn",)),
    "lightgbm": Contender(lightgbm, ("lightgbm", "sklearn")),
    "xgboost": Contender(xgboost, ("xgboost", "sklearn")),
    "catboost": Contender(catboost, ("catboost",), fast=False),
    "realmlp": Contender(realmlp, ("pytabkit",), fast=False),
    "tabm": Contender(tabm, ("pytabkit",), fast=False, by_default=False),
}
