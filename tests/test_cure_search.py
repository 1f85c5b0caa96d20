"""The cure matrix: which variants there are, how they are ranked, and what a budget means."""

import math
import time

import numpy as np
import pytest
from builders import features

import fastnn as fnn
from fastnn.diagnostics import cure_search
from fastnn.diagnostics.cure_search import FACTORS, KEPT, CureTable, Variant, all_variants, cures
from fastnn.diagnostics.findings import Cure


def task(n=400, seed=0):
    X = features(n, 6, seed)
    return X, (X[:, 0] * X[:, 1] + X[:, 2] > 0).astype(int)


def broken(**options):
    return fnn.mlp([6, 12, 12, 12, 2], activation="sigmoid", init="normal", **options)


class Clock:
    """A clock that only trainings move: a millisecond each, and twenty microseconds a step."""

    def __init__(self, train):
        self.now, self._train = 0.0, train

    def perf_counter(self):
        return self.now

    def train(self, search, variant, steps):
        self.now += 1e-3 + 20e-6 * steps
        return self._train(search, variant, steps)


@pytest.fixture(scope="module")
def table():
    clock = Clock(cure_search._Search._train)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cure_search, "time", clock)
        patch.setattr(cure_search._Search, "_train", lambda *arguments: clock.train(*arguments))
        return cures(broken(), *task(), seconds=1.0, optimizer=fnn.SGD(0.1), batch_size=20)


def row(score, loss, steps, **options):
    return Variant({**dict.fromkeys(FACTORS, KEPT), **options}, Cure(""), score, loss, steps)


def test_a_cure_is_found(table):
    assert table.metric == "accuracy"
    assert table.baseline.changes == 0
    assert table.baseline.steps == table.best.steps  # it stays for the comparison
    assert table.best.score > max(table.baseline.score, 0.75)
    net = table.best.cure.apply(broken())
    X, y = task()
    net.fit(X, y, epochs=40, batch_size=20, **table.best.cure.fit)
    assert net.evaluate(*task(200, 1))["accuracy"] > 0.75


def test_each_variant_stands_once_and_those_that_stayed_longest_come_first(table):
    assert len({tuple(variant.options.values()) for variant in table}) == len(table)
    steps = [variant.steps for variant in table]
    assert steps == sorted(steps, reverse=True)
    for stayed in set(steps):
        scores = [variant.score for variant in table if variant.steps == stayed]
        assert scores == sorted(scores, reverse=True)


def test_variants_are_different_networks_the_least_changed_first():
    net, optimizer = broken(), fnn.SGD(0.1)
    found = all_variants(net, optimizer)
    assert found[0].changes == 0
    assert [v.changes for v in found] == sorted(v.changes for v in found)
    assert len({repr((v.cure.layers(net.layers), v.cure.fit)) for v in found}) == len(found)
    options = {factor: {v.options[factor] for v in found} for factor in FACTORS}
    tables = {**cure_search.LAYER_FACTORS, **cure_search.FIT_FACTORS}
    assert options == {factor: set(known) for factor, known in tables.items()}
    for variant in found:
        variant.cure.apply(net)


def test_options_that_change_nothing_are_left_out():
    # relu, init by activation, no two equal widths, Adam already
    found = all_variants(fnn.mlp([6, 12, 7, 2]), fnn.Adam(1e-3))
    assert {v.options["shortcuts"] for v in found} == {KEPT}
    assert {v.options["optimizer"] for v in found} == {KEPT, "momentum"}
    assert "relu" not in {v.options["activation"] for v in found}
    assert "auto" not in {v.options["init"] for v in found}


def test_sorted_data_are_mixed_before_a_part_of_them_is_taken():
    X, y = task()
    order = np.argsort(y)
    search = cure_search._Search(
        broken(backend="numpy"), X[order], y[order], task(50, 1), fnn.SGD(0.1), 20
    )
    assert 0.3 < search.y[:100].mean() < 0.7
    assert {tuple(row) for row in search.X} == {tuple(row) for row in X}


def test_the_network_stays_as_it_is(table):
    net = broken()
    before = net.state.theta.copy()
    cures(net, *task(), seconds=0.05)
    np.testing.assert_array_equal(net.state.theta, before)
    assert net.epochs == 0


def test_the_budget_is_kept():
    started = time.perf_counter()
    found = cures(broken(backend="numpy"), *task(), seconds=0.5)
    assert len(found) >= 2  # how many more is for the machine to say
    assert time.perf_counter() - started < 60  # no figure of speed: it ends


def test_diverged_variants_are_ranked_last():
    X, y = features(200), 1e4 * features(200)[:, :1]
    found = cures(fnn.mlp([4, 8, 1], loss="mse"), X, y, seconds=0.5, optimizer=fnn.SGD(10.0))
    assert found.metric == "r2"
    diverged = [variant for variant in found if variant.score == -math.inf]
    assert diverged
    assert all(variant.loss == math.inf for variant in diverged)
    assert found.best.score > -math.inf


def test_ctrl_c_returns_what_is_known(monkeypatch):
    trained = []
    fit = fnn.Network.fit

    def interrupted(self, *arguments, **options):
        history = fit(self, *arguments, **options)
        trained.append(self)
        if len(trained) > 10:
            history.stopped = "interrupted"
        return history

    monkeypatch.setattr(fnn.Network, "fit", interrupted)
    assert 1 <= len(cures(broken(backend="numpy"), *task(), seconds=30)) <= 11


def test_a_heat_map_has_the_best_of_each_pair():
    rows = [
        row(0.9, 0.1, 9),
        row(0.5, 0.1, 9, activation="relu"),
        row(0.7, 0.1, 9, activation="relu", init="auto"),
        row(-math.inf, math.inf, 9, activation="relu", normalisation="BatchNorm"),
    ]
    down, across, scores = CureTable(rows, "accuracy").heatmap()
    assert (down, across) == ([KEPT, "relu"], [KEPT, "BatchNorm"])
    np.testing.assert_array_equal(scores, [[0.9, np.nan], [0.7, np.nan]])
    with pytest.raises(ValueError, match="unknown rows 'activaton' \\(did you mean 'activation'"):
        CureTable(rows, "accuracy").heatmap("activaton")


def test_it_prints_as_a_table(table):
    lines = str(table).splitlines()
    assert all(word in lines[1] for word in (*FACTORS, "accuracy", "loss", "steps"))
    assert len(lines) == len(table) + 4
    assert max(map(len, lines)) <= 140
    assert repr(table).startswith(f"<CureTable of {len(table)} variants, the best with accuracy 0.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0}, "seconds"),
        ({"seconds": "long"}, "seconds"),
        ({"validation": 1.5}, "validation"),
        ({"validation": None}, "a fraction of the data, such as 0.2, or a pair"),
        ({"batch_size": 0}, "batch_size"),
        ({"optimizer": "lbfgs"}, "LBFGS"),
        ({"optimizer": "adm"}, "adam"),
        ({"progress": "yes"}, "progress"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        cures(broken(backend="numpy"), *task(), **options)
