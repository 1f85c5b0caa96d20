"""Mistakes, and Ctrl-C, of those who call `TabularClassifier` and `TabularRegressor`."""

import signal

import numpy as np
import pytest
from estimator_cases import FRAME, LABEL, ROWS, VALUE, classifier, regressor

import fastnn as fnn
from fastnn.estimators import bagging, fitting


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FRAME, np.full(ROWS, "low")), "is 'low' in every row; there is nothing to learn"),
        (({"size": np.full(ROWS, np.nan)}, LABEL), "no column to learn from"),
        ((FRAME, "kind"), "kind"),
        ((FRAME, LABEL[:-1]), "y has 239 values for the 240 rows"),
        ((FRAME, np.where(np.arange(ROWS) == 7, None, LABEL)), "row 8"),
        (({}, LABEL), "no columns"),
    ],
)
def test_bad_tables(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        classifier().fit(*arguments)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_targets_that_are_no_numbers(value):
    y = VALUE.copy()
    y[3] = value
    with pytest.raises(ValueError, match="row 4"):
        regressor().fit(FRAME, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "realmpl"}, "unknown recipe 'realmpl'"),
        ({"n_folds": 0}, "n_folds must be an integer of at least 1, not 0"),
        ({"metric": "rmse"}, "metric 'rmse' does not go with classification"),
        ({"time_limit": 0}, "time_limit must lie in"),
        ({"threshold": "auc"}, "unknown threshold 'auc'"),
        ({"threshold": 1.5}, "threshold must lie in"),
        ({"random_state": -1}, "random_state must be an integer of at least 0"),
        ({"encoder": 3}, "encoder must be a TableEncoder, not int"),
        ({"refit": "no"}, "refit must be True or False"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        classifier(**options).fit(FRAME, LABEL)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros(ROWS), "groups has the same value in all rows"),
        (np.zeros(3), r"groups has shape \(3,\); expected \(240,\)"),
    ],
)
def test_bad_groups(groups, message):
    with pytest.raises(ValueError, match=message):
        classifier().fit(FRAME, LABEL, groups=groups)


def test_few_groups_make_few_networks():
    groups = np.array(["a", None, "b"], object)[np.arange(ROWS) % 3]
    assert len(classifier(n_folds=5).fit(FRAME, LABEL, groups=groups).histories_) == 3


def test_errors_come_before_training(monkeypatch):
    monkeypatch.setattr(fnn.Network, "fit", None)
    with pytest.raises(ValueError, match="threshold goes with two classes; the target has 3"):
        classifier(threshold="f1").fit({"size": FRAME["size"]}, FRAME["colour"])


def test_a_network_that_diverges_is_left_out_with_a_note(monkeypatch):
    real, calls = fnn.Network.fit, []

    def fit(self, *arguments, **options):
        calls.append(self)
        if len(calls) == 2:
            raise fnn.DivergenceError("training diverged", 1, 1)
        return real(self, *arguments, **options)

    monkeypatch.setattr(fnn.Network, "fit", fit)
    model = classifier(n_folds=3).fit(FRAME, LABEL)
    assert len(model.model_.networks) == 2
    assert "network 2 is left out: training diverged" in model.notes_


class Interrupt:
    """In place of a callback: Ctrl-C in the training of a network."""

    def __init__(self, which):
        self.which, self.seen = which, 0

    def __call__(self, *arguments, **options):
        return self

    def on_fit_start(self, training):
        self.seen += 1

    def on_epoch_end(self, training):
        if self.seen == self.which and training.epoch == 2:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("which", "kept"), [(1, 1), (2, 1), (3, 2)])
def test_an_interrupted_bag_keeps_what_is_good(monkeypatch, which, kept):
    """A network cut short is kept only where it is the first."""
    monkeypatch.setattr(bagging, "EarlyStopping", Interrupt(which))
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.default_int_handler)
    model = regressor(n_folds=3, quantiles=True, epochs=5, metric="rmse").fit(FRAME, VALUE)
    assert len(model.model_.networks) == kept
    assert f"interrupted: {kept} of 3 networks are kept" in model.notes_
    assert model.model_.quantiles is None


def test_ctrl_c_before_the_quantiles_keeps_the_networks(monkeypatch):
    def fit_quantiles(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "fit_quantiles", fit_quantiles)
    model = regressor(quantiles=True).fit(FRAME, VALUE)
    assert len(model.model_.networks) == 2
    assert "interrupted: no quantiles were learnt" in model.notes_


def test_a_threshold_of_three_classes():
    with pytest.raises(ValueError, match="threshold goes with two classes; the target has 3"):
        classifier(threshold="f1").fit({"size": FRAME["size"]}, FRAME["colour"])


def test_columns_that_are_not_what_they_were():
    model = classifier().fit(FRAME, LABEL)
    with pytest.raises(ValueError, match="lacks the columns colour"):
        model.predict({"size": FRAME["size"]})
    with pytest.raises(ValueError, match=r"'colour' is '0' in row 1, .*: it holds numbers now"):
        model.predict({**FRAME, "colour": np.arange(ROWS)})
    with pytest.raises(ValueError, match=r"'size' is '(red|green|blue)'"):
        model.predict({**FRAME, "size": FRAME["colour"]})


def test_before_fit():
    with pytest.raises(ValueError, match="this TabularRegressor has not been fitted"):
        regressor().predict(FRAME)


@pytest.mark.parametrize("coverage", [0, 1, 1.5, "x", 0.9999])
def test_coverage_that_cannot_be_had(coverage):
    model = regressor().fit(FRAME, VALUE)
    with pytest.raises((ValueError, TypeError), match="coverage"):
        model.predict(FRAME, coverage=coverage)
