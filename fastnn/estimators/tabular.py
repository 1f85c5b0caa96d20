"""`TabularClassifier` and `TabularRegressor`: from a frame to predictions, as in scikit-learn."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from fastnn.data.validation import as_sample_weight
from fastnn.estimators.bagging import Bag
from fastnn.estimators.explanations.explanation import Explanation, explain
from fastnn.estimators.fitting import fit_model
from fastnn.estimators.options import TableOptions
from fastnn.estimators.parameters import Parameterised
from fastnn.estimators.rows import numbered, target_of, training_rows, validation_rows
from fastnn.estimators.scoring import scores_of
from fastnn.estimators.table_model import TableModel
from fastnn.recipes import RECIPES
from fastnn.tabular.encoder import TableEncoder
from fastnn.tabular.frames import as_table
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.targets import Classes

_FIELDS = {field.name for field in dataclasses.fields(TableOptions)}
_PARAMETERS = f"""recipe : str
        How networks are built and trained: {", ".join(RECIPES)}. "auto" is fastnn's own, "plain" a
        small network, and the others are those of the papers that they are named after.
    n_folds : int, optional
        Networks that are averaged, each validated on rows that it did not train on; by default the
        recipe's own number. With 1, a fifth of the rows is held out.
    metric : str, optional
        Of the validation rows: it chooses the best epoch; of equal ones the last is kept.
    epochs, batch_size : int, optional
        Instead of the recipe's own.
    time_limit : float, optional
        Seconds for the training of all networks. Where they are short, there are fewer epochs, then
        fewer networks; ``notes_`` says so.
    refit : bool
        Whether to train the networks again on all rows, for as many epochs as was best.
    random_state : int
        The same number gives the same bits on the same engine.
    encoder : TableEncoder, optional
        One with options of your own; an unfitted copy is used.
    dtype, backend : str
        As in `Network`.
    progress : bool
        Whether to show a bar, if standard error is a terminal."""
_ATTRIBUTES = """model_ : TableModel
        Encoder, networks, and what was learnt from rows held out.
    scores_ : dict
        Of rows that were held out, each predicted by networks that did not train on it.
    notes_ : list of str
        What may surprise about the table or the training.
    histories_ : list of History
        One for each network."""


class _Tabular(Parameterised):
    """What both estimators share; a subclass names its task and has the parameters."""

    _task: str
    encoder: TableEncoder | None
    random_state: int
    model_: TableModel

    # --- fitting ----------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        eval_set: Any = None,
        groups: Any = None,
    ) -> Self:
        """Learn from a table; returns the estimator itself.

        Parameters
        ----------
        X : DataFrame of pandas or Polars, Table of pyarrow, dict of arrays, or 2-D array
        y : array-like (n,) or (n, 1), frame of one column, or str
            The target: values, or the name of a column of X.
        sample_weight : array-like (n,), optional
            Weights of the rows, 0 or more, in training and in all scores; a row of weight 0 does
            not count at all.
        eval_set : (X, y), optional
            Rows of your own to validate with. All networks train on all of X then, and differ by
            their seeds.
        groups : array-like (n,), optional
            Rows of a group are never on both sides of a split.

        Raises
        ------
        ValueError, TypeError
            Before anything is trained, naming the argument or the column, and the option that
            helps.
        """
        given = {k: v for k, v in self.get_params().items() if k in _FIELDS}
        options = TableOptions(**given, seed=self.random_state)
        encoder = self._new_encoder(options)
        table = as_table(X, encoder.reading())
        rows, groups = training_rows(encoder, table, y, sample_weight, groups)
        options = dataclasses.replace(options, class_weight=numbered(options.class_weight, encoder))
        validation = None if eval_set is None else validation_rows(encoder, eval_set)
        self.model_, bag = fit_model(encoder, rows, options, validation, groups)
        self._remember(bag, len(table.names) - isinstance(y, str))
        return self

    def _new_encoder(self, options: TableOptions) -> TableEncoder:
        if self.encoder is None:
            return options.encoder(task=self._task)
        if not isinstance(self.encoder, TableEncoder):
            raise TypeError(f"encoder must be a TableEncoder, not {type(self.encoder).__name__}")
        return dataclasses.replace(self.encoder, task=self._task, dtype=options.dtype)

    def _remember(self, bag: Bag, columns: int) -> None:
        self.scores_: dict[str, float] = dict(self.model_.scores)
        self.notes_: list[str] = [*self.model_.encoder.notes, *bag.notes]
        self.histories_ = bag.histories
        self.n_features_in_: int = columns

    # --- using ------------------------------------------------------------------------------------

    def explain(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        repeats: int = 5,
        max_rows: int = 2000,
        seed: int = 0,
    ) -> Explanation:
        """Which columns the predictions depend on, and how: see `Explanation`.

        Parameters
        ----------
        X : as `fit` takes it
            Best rows that the model did not train on.
        y : array-like (n,) or (n, 1), frame of one column, or str
            The target: values, or the name of a column of X.
        sample_weight : array-like (n,), optional
        repeats : int
            How often each column is shuffled.
        max_rows : int
            Of more rows so many are drawn.
        seed : int
            Of the rows that are drawn, and of the orders.
        """
        model = self._fitted()
        encoder = model.encoder
        target = target_of(encoder, X, y)
        table = as_table(X, encoder.read_options(ReadOptions(in_python=True), with_target=False))
        weights = _weights(sample_weight, len(table))
        return explain(model, table, target, weights, repeats, max_rows, seed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file, for `load` and for the command line."""
        self._fitted().save(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], backend: str = "auto") -> Self:
        """An estimator of a model file, ready to predict.

        Raises
        ------
        ValueError
            A file of another task, or without an encoder; or as `fastnn.load`.
        """
        from fastnn.models import load

        model = TableModel.of(load(path, backend))
        estimator = cls()
        if model.classifies != (cls._task == "classification"):
            other = "TabularClassifier" if model.classifies else "TabularRegressor"
            raise ValueError(f"{path} is no model of a {cls.__name__}; {other}.load reads it")
        estimator.set_params(backend=backend, dtype=model.encoder.dtype)
        if model.recipe in RECIPES:
            estimator.set_params(recipe=model.recipe)
        estimator.model_ = model
        estimator.scores_ = dict(model.scores)
        estimator.n_features_in_ = len(model.encoder.columns) + len(model.encoder.left_out)
        return estimator

    def _fitted(self) -> TableModel:
        if not self.__sklearn_is_fitted__():
            raise ValueError(f"this {type(self).__name__} has not been fitted: call fit first")
        return self.model_

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks an estimator about itself."""
        from sklearn.utils import ClassifierTags, RegressorTags, Tags, TargetTags

        classifies = self._task == "classification"
        tags = Tags(
            estimator_type="classifier" if classifies else "regressor",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags() if classifies else None,
            regressor_tags=None if classifies else RegressorTags(),
        )
        tags.input_tags.allow_nan = tags.input_tags.categorical = tags.input_tags.string = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _outputs(self, X: Any) -> np.ndarray:
        """Probabilities (n, classes) or standardised values (n, 1) of a table."""
        model = self._fitted()
        return model.outputs(model.encoder.transform(X))


class TabularClassifier(_Tabular):
    """Networks that tell classes apart by the columns of a table.

    Parameters
    ----------
    {parameters}
    class_weight : mapping of class to number, "balanced" or None
        A factor on the weight of the rows of each class, in training only.
    calibrate : bool
        Whether to scale the probabilities by a temperature where that lowers the log-loss of rows
        held out beyond doubt. It takes rows that all networks have not seen: one network, or an
        ``eval_set``. The average of several networks needs none as a rule.
    threshold : float, "accuracy", "balanced_accuracy", "f1" or None
        Of two classes: the probability from which the second is the answer, or the metric that
        chooses it.

    Attributes
    ----------
    {attributes}
    classes_ : ndarray
        In the order of the columns of `predict_proba`.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> rng = np.random.default_rng(0)
    >>> X = {{"size": rng.normal(size=300), "colour": rng.choice(["red", "blue"], 300)}}
    >>> y = np.where((X["size"] > 0) == (X["colour"] == "red"), "yes", "no")
    >>> model = fnn.TabularClassifier(n_folds=2, backend="numpy").fit(X, y)
    >>> model.score(X, y) > 0.9
    True
    """

    _task = "classification"
    _estimator_type = "classifier"  # for scikit-learn before 1.6

    # Parameters: each is part of the public contract, and all have defaults.
    def __init__(
        self,
        recipe: str = "auto",
        time_limit: float | None = None,
        n_folds: int | None = None,
        random_state: int = 0,
        metric: str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        refit: bool = False,
        class_weight: Mapping[int, float] | str | None = None,
        calibrate: bool = True,
        threshold: str | float | None = None,
        encoder: TableEncoder | None = None,
        dtype: str = "float32",
        backend: str = "auto",
        progress: bool = False,
    ):
        self.recipe = recipe
        self.time_limit = time_limit
        self.n_folds = n_folds
        self.random_state = random_state
        self.metric = metric
        self.epochs = epochs
        self.batch_size = batch_size
        self.refit = refit
        self.class_weight = class_weight
        self.calibrate = calibrate
        self.threshold = threshold
        self.encoder = encoder
        self.dtype = dtype
        self.backend = backend
        self.progress = progress

    @property
    def classes_(self) -> np.ndarray:
        """The classes, in the order of the columns of `predict_proba`."""
        target = self._fitted().encoder.target
        assert isinstance(target, Classes)
        return target.labels()

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (n, classes) of a table."""
        return self._outputs(X)

    def predict(self, X: Any, coverage: float | None = None) -> Any:
        """The likeliest class of each row, or with ``coverage`` all that may be true.

        Parameters
        ----------
        X : as `fit` takes it
        coverage : float, optional
            How often the truth is to be among the classes named, in (0, 1).

        Returns
        -------
        ndarray (n,), or list of n ndarrays with the likeliest class first
        """
        p = self._outputs(X)
        if coverage is None:
            return self._fitted().decode(p)["prediction"]
        may_be, classes = self._fitted().sets(p, coverage), self.classes_
        return [
            classes[order[chosen[order]]]
            for order, chosen in zip(np.argsort(-p, axis=1, kind="stable"), may_be, strict=True)
        ]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy."""
        return self.evaluate(X, y, sample_weight)["accuracy"]

    def evaluate(self, X: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """Accuracy, log-loss and AUC; ``y`` may name a column of X."""
        model = self._fitted()
        target = target_of(model.encoder, X, y)
        encoded = model.encoder.transform(X)
        return scores_of(model, encoded, target, _weights(sample_weight, len(encoded)))


class TabularRegressor(_Tabular):
    """Networks that predict a number from the columns of a table.

    Predictions stay within the range of the training target.

    Parameters
    ----------
    {parameters}
    quantiles : bool, optional
        Whether to train one more network, for `predict_quantiles`; by default beside five or more.

    Attributes
    ----------
    {attributes}

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 2))
    >>> y = X[:, 0] + X[:, 1] ** 2
    >>> model = fnn.TabularRegressor(n_folds=2, backend="numpy").fit(X, y)
    >>> values, lower, upper = model.predict(X, coverage=0.9)
    >>> float(((lower <= y) & (y <= upper)).mean()) > 0.85
    True
    """

    _task = "regression"
    _estimator_type = "regressor"

    # Parameters: each is part of the public contract, and all have defaults.
    def __init__(
        self,
        recipe: str = "auto",
        time_limit: float | None = None,
        n_folds: int | None = None,
        random_state: int = 0,
        metric: str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        refit: bool = False,
        quantiles: bool | None = None,
        encoder: TableEncoder | None = None,
        dtype: str = "float32",
        backend: str = "auto",
        progress: bool = False,
    ):
        self.recipe = recipe
        self.time_limit = time_limit
        self.n_folds = n_folds
        self.random_state = random_state
        self.metric = metric
        self.epochs = epochs
        self.batch_size = batch_size
        self.refit = refit
        self.quantiles = quantiles
        self.encoder = encoder
        self.dtype = dtype
        self.backend = backend
        self.progress = progress

    def predict(self, X: Any, coverage: float | None = None) -> Any:
        """The value of each row, or with ``coverage`` bounds, too.

        Parameters
        ----------
        X : as `fit` takes it
        coverage : float, optional
            How often the truth is to lie between the bounds, in (0, 1).

        Returns
        -------
        ndarray (n,), or three of them: values, lower and upper bounds
        """
        outputs, model = self._outputs(X), self._fitted()
        values = model.decode(outputs)["prediction"]
        return values if coverage is None else (values, *model.intervals(outputs, coverage))

    def predict_quantiles(self, X: Any, levels: Sequence[float] = (0.1, 0.5, 0.9)) -> np.ndarray:
        """Values (n, levels) below which the target lies with these probabilities, in (0, 1).

        They do not cross, and stay within the range of the training target.
        """
        model = self._fitted()
        return model.predict_quantiles(model.encoder.transform(X), levels)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The coefficient of determination R²."""
        return self.evaluate(X, y, sample_weight)["r2"]

    def evaluate(self, X: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """R², RMSE and MAE in the unit of the target; ``y`` may name a column of X."""
        model = self._fitted()
        target = target_of(model.encoder, X, y)
        encoded = model.encoder.transform(X)
        return scores_of(model, encoded, target, _weights(sample_weight, len(encoded)))


for _kind in (TabularClassifier, TabularRegressor):
    if _kind.__doc__ is not None:  # None where docstrings were stripped
        _kind.__doc__ = _kind.__doc__.format(parameters=_PARAMETERS, attributes=_ATTRIBUTES)


def _weights(sample_weight: Any, n: int) -> np.ndarray | None:
    return None if sample_weight is None else as_sample_weight(sample_weight, n, np.float64)
