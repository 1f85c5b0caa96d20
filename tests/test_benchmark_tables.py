"""``benchmarks/tables.py`` splits, scores and ranks as its documents say."""

import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

pd = pytest.importorskip("pandas", reason="pandas is not installed")

FOLDER = Path(__file__).parents[1] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip(
        "benchmarks/ is not beside the tests: they run without the sources", allow_module_level=True
    )


@pytest.fixture
def module(monkeypatch):
    """Import a module of the folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def outcome(score, cpu=1.0, title="log_loss"):
    seconds = {"wall": cpu, "cpu": cpu}
    return {
        "start_up": seconds,
        "fit": seconds,
        "scores": {title: score},
        "baseline": {title: 0.7},
    }


# --- rows -----------------------------------------------------------------------------------------


def test_every_row_is_in_one_part_and_every_class_has_its_share(module):
    sets = module("real_tables.sets")
    target = pd.Series(np.repeat(["a", "b", "c"], [500, 100, 10]))
    parts = sets.split(target, sets.CLASSIFICATION, 0)
    assert sorted(np.concatenate(parts)) == list(range(610))
    counts = [target[part].value_counts().reindex(["a", "b", "c"]).tolist() for part in parts]
    assert counts == [[300, 60, 6], [100, 20, 2], [100, 20, 2]]


def test_a_split_of_numbers_takes_60_20_and_20_percent(module):
    sets = module("real_tables.sets")
    target = pd.Series(np.arange(1030.0))
    parts = sets.split(target, sets.REGRESSION, 1)
    assert sorted(np.concatenate(parts)) == list(range(1030))
    assert [len(part) for part in parts] == [618, 206, 206]


def test_splits_can_be_repeated_and_differ_from_each_other(module):
    sets = module("real_tables.sets")
    target = pd.Series(np.repeat(["b", "a"], 50))
    first, again, second = (sets.split(target, sets.CLASSIFICATION, n)[2] for n in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(second)
    rng = np.random.default_rng(1000)  # the protocol's, so that others can draw the same rows
    tests = [rng.permutation(np.arange(start, start + 50))[40:] for start in (0, 50)]
    np.testing.assert_array_equal(first, np.sort(np.concatenate(tests)))


@pytest.mark.parametrize("name", ["heart", "credit", "concrete"])
def test_sets_have_the_rows_of_the_protocol(module, name):
    sets = module("real_tables.sets")
    source = sets.SETS[name]
    if importlib.util.find_spec(source.package) is None:
        pytest.skip(f"{source.package} is not installed")
    frame, target, task = sets.load(name)
    assert (len(frame), target.name, task) == (source.rows, source.target, source.task)
    assert not target.isna().any()
    assert not {source.target, *source.left_out} & set(frame)
    assert all(pd.api.types.is_numeric_dtype(kind) or kind == "category" for kind in frame.dtypes)


def test_another_number_of_rows_is_refused(module, monkeypatch):
    sets = module("real_tables.sets")
    table = pd.DataFrame({"rownames": [1], "age": [1.0], "compressive_strength": [2.0]})
    monkeypatch.setattr(sets, "_read", lambda source: table)
    with pytest.raises(ValueError, match="concrete has 1 rows with a target, not 1,030"):
        sets.load("concrete")


# --- predictions ----------------------------------------------------------------------------------


def test_probabilities_come_in_the_order_of_the_classes(module, tmp_path):
    contenders, path = module("real_tables.contenders"), tmp_path / "out.csv"
    path.write_text("prediction,probability_no,probability_yes\nno,0.75,0.25\nyes,0.125,0.875\n")
    found = contenders.parse_predictions(path, ("maybe", "yes", "no"))
    np.testing.assert_array_equal(found, [[0, 0.25, 0.75], [0, 0.875, 0.125]])
    with pytest.raises(ValueError, match=r"expected probability_… of yes; found prediction"):
        contenders.parse_predictions(path, ("yes",))


def test_predicted_values_are_read(module, tmp_path):
    contenders, path = module("real_tables.contenders"), tmp_path / "out.csv"
    path.write_text("prediction\n1.5\n-2\n")
    np.testing.assert_array_equal(contenders.parse_predictions(path, ()), [1.5, -2])
    path.write_text("probability_a\n1\n")
    with pytest.raises(ValueError, match="no column 'prediction' among probability_a"):
        contenders.parse_predictions(path, ())


@pytest.mark.parametrize("contender", ["fastnn", "fastnn_train"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_our_contenders_learn(module, monkeypatch, tmp_path, use_threads, task, contender):
    """Gaps, text with blanks, whole numbers as classes."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    contenders, sets = module("real_tables.contenders"), module("real_tables.sets")
    scores, rng = module("real_tables.scores"), np.random.default_rng(0)
    x, name = rng.normal(size=400), rng.choice(["one way", "other"], 400)
    y = x + (name == "other") + 0.1 * rng.normal(size=400)
    frame = pd.DataFrame({"x": x, "name": pd.Categorical(name)})
    frame.loc[::50] = np.nan
    target = pd.Series((y > 0.5).astype(int).astype(str) if task == sets.CLASSIFICATION else y)
    monkeypatch.setattr(sets, "load", lambda name: (frame, target.rename("the target"), task))
    problem = contenders.problem("made up", 0, tmp_path)
    predicted = getattr(contenders, contender)(1)(problem)()
    found = scores.score(task, problem.y_test, predicted)
    assert found.get("r2", found.get("accuracy")) > 0.7


# --- scores ---------------------------------------------------------------------------------------


def test_scores_of_classes(module):
    scores = module("real_tables.scores")
    predicted = np.array([[0.75, 0.25], [0.5, 0.5], [1.0, 0.0], [0.25, 0.75]])
    found = scores.score("classification", np.array([0, 1, 1, 1]), predicted)
    assert found["log_loss"] == pytest.approx(
        -(2 * math.log(0.75) + math.log(0.5) + math.log(1e-15)) / 4
    )
    assert found["accuracy"] == 0.5
    assert found["auc"] == pytest.approx(2 / 3)


def test_the_area_of_many_classes_is_the_mean_of_each_against_the_rest(module):
    scores, rng = module("real_tables.scores"), np.random.default_rng(0)
    truth, predicted = rng.integers(3, size=50), rng.dirichlet(np.ones(3), 50)
    predicted[:10] = predicted[0]  # ties
    by_hand = [
        np.mean(
            [
                (p > q) + (p == q) / 2
                for p in predicted[truth == k, k]
                for q in predicted[truth != k, k]
            ]
        )
        for k in range(3)
    ]
    found = scores.score("classification", truth, predicted)["auc"]
    assert found == pytest.approx(np.mean(by_hand))


def test_scores_of_values(module):
    scores = module("real_tables.scores")
    found = scores.score("regression", np.array([0.0, 2.0]), np.array([0.0, 1.0]))
    assert found == {"r2": 0.5, "rmse": pytest.approx(math.sqrt(0.5)), "mae": 0.5}
    with pytest.raises(ValueError, match="not finite"):
        scores.score("regression", np.zeros(2), np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="1 predictions of 2 rows"):
        scores.score("regression", np.zeros(2), np.zeros(1))


def test_the_baseline_knows_the_rows_to_fit_alone(module):
    scores = module("real_tables.scores")
    found = scores.baseline("classification", np.array([0, 0, 0, 1]), np.array([0, 1]))
    assert found["log_loss"] == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)
    assert found["auc"] == 0.5
    found = scores.baseline("regression", np.array([1.0, 3.0]), np.array([0.0, 4.0]))
    assert found == {"r2": 0.0, "rmse": 2.0, "mae": 2.0}


# --- the comparison -------------------------------------------------------------------------------


def test_ranks_share_places(module):
    ranks = module("real_tables.comparison").ranks
    assert ranks({"a": 0.2, "b": 0.1, "c": 0.2}, True) == {"a": 2.5, "b": 1, "c": 2.5}
    assert ranks({"a": 0.2, "b": 0.1}, False) == {"a": 1, "b": 2}


def test_gaps_go_from_the_best_to_the_worst(module):
    gaps = module("real_tables.comparison").gaps
    assert gaps({"a": 0.5, "b": 0.25, "c": 0.75}, True) == {"a": 0.5, "b": 0, "c": 1}
    assert gaps({"a": 0.5, "b": 0.25, "c": 0.75}, False) == {"a": 0.5, "b": 1, "c": 0}
    assert gaps({"a": 0.5, "b": 0.5}, True) == {"a": 0, "b": 0}


def test_the_summary_takes_what_all_contenders_finished(module):
    comparison = module("real_tables.comparison")
    results = {
        "heart": {
            "fastnn": {"0": outcome(0.4, 1.0), "1": outcome(9.0, 99.0)},
            "catboost": {"0": outcome(0.5, 4.0)},
            "tabm": {"0": {"error": "no memory"}},
        },
        "concrete": {
            "fastnn": {"0": outcome(0.8, 1.0, "r2"), "1": outcome(0.6, 3.0, "r2")},
            "catboost": {"0": outcome(0.9, 6.0, "r2"), "1": outcome(0.9, 10.0, "r2")},
        },
        "ames": {"fastnn": {"0": outcome(0.1, 1.0, "r2")}, "catboost": {"0": {"error": "killed"}}},
    }
    found = comparison.summarise(results)
    assert set(found) == {"fastnn", "catboost"}
    ours, theirs = found["fastnn"], found["catboost"]
    assert (ours.rank, ours.gap, theirs.rank, theirs.gap) == (1.5, 0.5, 1.5, 0.5)
    assert ours.cpu == pytest.approx(math.sqrt(1 * 2))
    assert ours.relative_cpu == pytest.approx(math.sqrt(1 / 4 * 2 / 8))
    assert theirs.relative_cpu == pytest.approx(1)


def test_runs_of_a_file_are_not_repeated(module, monkeypatch, tmp_path, capsys):
    tables, path = module("tables"), tmp_path / "results.json"
    monkeypatch.setattr(tables, "_installed", lambda names, packages: names)
    calls = []

    def run(script, words, threads):
        calls.append(tuple(words[1:]))
        if words[3] == "xgboost":
            return {"error": "took longer than 1 s"}
        return outcome(0.4 if words[3] == "fastnn" else 0.5)

    monkeypatch.setattr(tables.processes, "run", run)
    words = ["tables.py", "--sets", "heart", "--splits", "0", "--json", str(path)]
    monkeypatch.setattr("sys.argv", [*words, "--contenders", "hgb,xgboost"])
    tables.main()
    assert set(json.loads(path.read_text())["raw"]["heart"]) == {"hgb", "xgboost"}
    words += ["--resume", str(path), "--contenders", "fastnn,hgb,xgboost"]
    monkeypatch.setattr("sys.argv", words)
    tables.main()
    assert [call[2] for call in calls] == ["hgb", "xgboost", "fastnn", "xgboost"]
    shown = capsys.readouterr().out
    assert "xgboost     failed" in shown
    assert shown.rindex("fastnn") < shown.rindex("hgb")  # the better one first
    monkeypatch.setattr("sys.argv", [*words, "--threads", "1"])
    with pytest.raises(SystemExit, match="measured with 2 threads, not 1"):
        tables.main()


def test_what_is_not_installed_is_named(module, monkeypatch, capsys):
    tables = module("tables")
    monkeypatch.setattr(tables.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["tables.py", "--quick"])
    tables.main()
    assert "pandas, scipy is not installed" in capsys.readouterr().err
