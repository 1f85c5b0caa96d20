"""Splits lose and repeat nothing and keep class shares; scalers apply their formula and back."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastnn.data import scalers, splits

SCALERS = (scalers.Standardizer, scalers.MinMaxScaler)
SIZES = st.one_of(st.integers(1, 10), st.floats(0.05, 0.4))
SEEDS = st.integers(0, 2**64 - 1)
CLASSES = st.lists(st.integers(0, 4), min_size=30, max_size=120).map(np.array)
MATRICES = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-1e6, 1e6, width=32),
)


def raises(error, part):
    return pytest.raises(error, match=re.escape(part))


def rows(n):
    """X and y whose row i holds i."""
    return np.arange(n)[:, None] * [1.0, 10.0], np.arange(n)


# --- splits ---------------------------------------------------------------------------------------


@given(st.integers(25, 80), SIZES, SIZES, SEEDS, st.booleans())
def test_splits_part_the_samples(n, validation_size, test_size, seed, stratify):
    X, y = rows(n)
    X_train, X_validation, X_test, *targets = splits.train_validation_test_split(
        X, y, validation_size, test_size, seed, stratify
    )
    np.testing.assert_array_equal(np.sort(np.concatenate(targets)), y)
    for part, target, size in zip(
        (X_validation, X_test, X_train),
        (*targets[1:], targets[0]),
        (validation_size, test_size, None),
        strict=True,
    ):
        np.testing.assert_array_equal(part[:, 1], target * 10)
        if size is not None:
            assert len(part) == (size if isinstance(size, int) else max(1, round(n * size)))
    two = splits.train_test_split(X, y, test_size, seed, stratify)
    np.testing.assert_array_equal(np.sort(np.concatenate(two[2:])), y)
    np.testing.assert_array_equal(two[1], X_test)


@given(CLASSES, SIZES, SIZES, SEEDS)
def test_stratified_splits_keep_class_shares(y, validation_size, test_size, seed):
    def within_one_sample(part, whole):
        share = np.bincount(whole, minlength=5) * len(part) / len(whole)
        return (np.abs(np.bincount(part, minlength=5) - share) < 1 + 1e-9).all()

    *_, train, test = splits.train_test_split(y[:, None], y, test_size, seed, stratify=True)
    assert within_one_sample(train, y)
    assert within_one_sample(test, y)
    *_, train, validation, test = splits.train_validation_test_split(
        y[:, None], y, validation_size, test_size, seed, stratify=True
    )
    assert within_one_sample(test, y)
    assert within_one_sample(validation, np.concatenate([train, validation]))


def test_a_split_depends_on_the_seed_alone():
    X, y = rows(100)
    first, again, other = (splits.train_test_split(X, y, seed=seed)[3] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("stratify", [False, True])
def test_samples_come_out_in_random_order(stratify):
    X, y = rows(1000)
    for part in splits.train_test_split(X, y // 100, 0.5, stratify=stratify)[:2]:
        assert abs(np.corrcoef(part[:, 0], np.arange(500))[0, 1]) < 0.2


def test_splitting_text_lists_and_tensors():
    X, y = [[i] for i in range(8)], list("aabbaabb")
    _, X_test, _, y_test = splits.train_test_split(X, y, 4, stratify=True)
    assert sorted(y_test) == list("aabb")
    assert [y[i] for i in X_test[:, 0]] == list(y_test)
    torch = pytest.importorskip("torch")
    assert splits.train_test_split(torch.zeros(8, 2), y)[0].shape == (6, 2)


def test_splitting_frames():
    pandas = pytest.importorskip("pandas")
    X, y = rows(20)
    frame, series = pandas.DataFrame(X, columns=["a", "b"], index=range(100, 120)), pandas.Series(y)
    X_train, X_test, y_train, y_test = splits.train_test_split(frame, series, 0.25)
    assert list(X_train.columns) == ["a", "b"]
    assert (len(X_train), len(X_test)) == (15, 5)
    np.testing.assert_array_equal(X_test.index, 100 + y_test)
    np.testing.assert_array_equal(X_train["a"], y_train)


@pytest.mark.parametrize(
    ("error", "options", "part"),
    [
        (ValueError, {"test_size": 0}, "test_size is 0; expected 1 to 9"),
        (ValueError, {"test_size": 10}, "test_size is 10; expected 1 to 9"),
        (ValueError, {"test_size": 1.0}, "test_size is 1.0; expected a fraction"),
        (ValueError, {"test_size": np.nan}, "test_size is nan"),
        (ValueError, {"test_size": 0.99}, "test_size 0.99 takes all of 10 samples"),
        (TypeError, {"test_size": "half"}, "test_size is 'half'"),
        (TypeError, {"test_size": True}, "test_size is True"),
        (TypeError, {"seed": 0.5}, "seed must be an integer of at least 0, not 0.5"),
        (ValueError, {"y": np.zeros(7)}, "y has 7 rows, but X has 10"),
        (
            ValueError,
            {"y": np.eye(10), "stratify": True},
            "stratify needs one class per sample, but y has shape (10, 10)",
        ),
        (TypeError, {"y": None}, "y is None"),
    ],
)
def test_split_mistakes(error, options, part):
    with raises(error, part):
        splits.train_test_split(**{"X": np.zeros((10, 2)), "y": np.zeros(10), **options})


def test_sets_must_leave_something_to_train_on():
    with raises(ValueError, "validation_size 0.5 and test_size 5 take all of 10 samples"):
        splits.train_validation_test_split(*rows(10), validation_size=0.5, test_size=5)


@given(CLASSES, st.booleans(), SEEDS)
def test_rows_are_set_aside_in_turn(classes, by_class, seed):
    n = len(classes)
    parts = splits.split_rows(n, [0.2, 0.25], seed, classes if by_class else None)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    _, first, second = map(len, parts)
    assert first == round(0.2 * n)
    assert second == round(0.25 * (n - first))
    if by_class:
        for c in set(classes.tolist()):
            share = first / n * (classes == c).sum()
            assert abs((classes[parts[1]] == c).sum() - share) <= 1


@given(st.integers(2, 60), st.data(), SEEDS)
def test_k_fold_covers_every_sample_once(n, draw, seed):
    k = draw.draw(st.integers(2, n))
    folds = splits.k_fold(n, k, seed)
    assert len(folds) == k
    np.testing.assert_array_equal(
        np.sort(np.concatenate([validation for _, validation in folds])), np.arange(n)
    )
    for train, validation in folds:
        np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(n))
        assert len(validation) in (n // k, n // k + 1)


@given(CLASSES, st.integers(2, 8), SEEDS)
def test_stratified_folds_have_the_shares_of_the_whole(classes, k, seed):
    folds = splits.k_fold(len(classes), k, seed, classes=classes)
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(len(classes)))
    for training, held_out in folds:
        assert not set(training) & set(held_out)
        assert len(training) + len(held_out) == len(classes)
        for c in set(classes.tolist()):
            share = (classes == c).sum() / k
            assert abs((classes[held_out] == c).sum() - share) < 1
    sizes = [len(held_out) for _, held_out in folds]
    assert max(sizes) - min(sizes) <= 1


@given(CLASSES, SEEDS)
def test_folds_keep_groups_together(groups, seed):
    k = min(3, len(set(groups.tolist())))
    if k < 2:
        with raises(ValueError, "groups has 1 different values; expected at least k = 2"):
            splits.k_fold(len(groups), 2, seed, groups=groups)
        return
    folds = splits.k_fold(len(groups), k, seed, groups=groups)
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(len(groups)))
    for training, held_out in folds:
        assert len(held_out)
        assert not set(groups[training]) & set(groups[held_out])


def test_folds_of_names_are_those_of_numbers():
    codes = np.arange(40) % 3
    names = np.array(["b", "a", "c"])[codes]
    of_names = splits.k_fold(40, 4, 1, classes=names)
    assert all(
        sorted(np.bincount(codes[held_out]).tolist()) == [3, 3, 4] for _, held_out in of_names
    )


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"classes": [1, 2]}, "classes has shape (2,); expected (10,)"),
        ({"groups": np.zeros((10, 2))}, "groups has shape (10, 2); expected (10,)"),
        ({"classes": np.zeros(10), "groups": np.zeros(10)}, "give classes or groups, not both"),
    ],
)
def test_classes_and_groups_that_do_not_fit(options, part):
    with raises(ValueError, part):
        splits.k_fold(10, 2, **options)


@pytest.mark.parametrize(
    ("error", "k", "part"),
    [
        (ValueError, 1, "k must be an integer of at least 2, not 1"),
        (TypeError, 2.5, "k must be an integer of at least 2, not 2.5"),
        (ValueError, 11, "k is 11; expected 2 to n = 10"),
    ],
)
def test_k_fold_mistakes(error, k, part):
    with raises(error, part):
        splits.k_fold(10, k)


# --- scalers --------------------------------------------------------------------------------------


@given(MATRICES)
def test_standardizer(X):
    scaler = scalers.Standardizer()
    scaled = scaler.fit_transform(X)
    wide = X.astype(np.float64)
    np.testing.assert_allclose(scaler.mean_, wide.mean(axis=0), rtol=1e-12, atol=1e-6)
    spread = np.where(np.ptp(X, axis=0) == 0, 1, wide.std(axis=0))
    np.testing.assert_allclose(scaler.scale_, spread, rtol=1e-6)
    np.testing.assert_array_equal(scaled[:, np.ptp(X, axis=0) == 0], 0)
    assert scaled.dtype == X.dtype


@given(MATRICES)
def test_min_max_scaler(X):
    scaled = scalers.MinMaxScaler().fit_transform(X)
    constant = np.ptp(X, axis=0) == 0
    np.testing.assert_array_equal(scaled.min(axis=0), 0)
    np.testing.assert_array_equal(scaled.max(axis=0), np.where(constant, 0, 1))
    assert scaled.dtype == X.dtype


@pytest.mark.parametrize("make", SCALERS)
@given(X=MATRICES)
def test_scaling_back(make, X):
    scaler = make().fit(X)
    back = scaler.inverse_transform(scaler.transform(X))
    assert back.dtype == X.dtype
    span = np.abs(X).max(axis=0) + np.ptp(X, axis=0)
    assert (np.abs(back - X) <= 4 * np.finfo(X.dtype).eps * span).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics_survive_a_large_offset(dtype):
    X = np.tile(np.array([0, 1], dtype) + 2**22, 50_000)[:, None]
    scaler = scalers.Standardizer().fit(X)
    assert scaler.mean_[0] == 2**22 + 0.5
    assert scaler.scale_[0] == 0.5
    assert set(scaler.transform(X).ravel()) == {-1.0, 1.0}


def test_a_constant_column_whose_mean_rounds():
    X = np.full((1000, 1), 0.1)
    assert X.mean() != 0.1
    assert not scalers.Standardizer().fit_transform(X).any()


@pytest.mark.parametrize("make", SCALERS)
def test_scalers_work_through_more_than_one_block(make):
    X = np.random.default_rng(0).normal(size=(5000, 100))
    scaler = make().fit(X)
    np.testing.assert_array_equal(scaler.transform(X)[-10:], scaler.transform(X[-10:]))
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(X)), X, atol=1e-12)


@pytest.mark.parametrize("make", SCALERS)
def test_scalers_take_frames_and_whole_numbers(make):
    pandas = pytest.importorskip("pandas")
    X = np.arange(6).reshape(3, 2)
    expected = make().fit_transform(X)
    assert expected.dtype == np.float64
    np.testing.assert_array_equal(make().fit_transform(pandas.DataFrame(X)), expected)


@pytest.mark.parametrize("make", SCALERS)
def test_scaler_mistakes(make):
    for call in (make().transform, make().inverse_transform):
        with raises(ValueError, f"this {make.__name__} has not been fitted"):
            call(np.zeros((2, 2)))
    with raises(ValueError, f"X has 3 columns, but this {make.__name__} was fitted to 2"):
        make().fit(np.zeros((2, 2))).transform(np.zeros((2, 3)))
    with raises(ValueError, "X is nan at row 1, column 0"):
        make().fit([[0, 1], [np.nan, 1]])
    with raises(ValueError, "X is 1-D"):
        make().fit([1.0, 2.0])


# --- scalers of columns of any size ---------------------------------------------------------------


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-150, 1e150, 1e200, 1e300, 1.7e308])
@pytest.mark.parametrize("scaler", SCALERS)
def test_scaled_columns_do_not_depend_on_their_size(scaler, size):
    usual = np.random.default_rng(0).uniform(-1, 1, size=(50, 3))
    usual[:, 1] = 1.0
    data = usual * [size, size, 1.0]
    fitted = scaler().fit(data)
    scaled = fitted.transform(data)
    np.testing.assert_allclose(scaled, scaler().fit_transform(usual), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(scaled[:, 1], 0)
    np.testing.assert_array_equal(scaled[:, 2], scaler().fit_transform(usual)[:, 2])
    back = fitted.inverse_transform(scaled)
    np.testing.assert_allclose(back[:, :2] / size, usual[:, :2], rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@given(
    hnp.arrays(np.float64, (6, 2), elements=st.floats(-1.7e308, 1.7e308)), st.sampled_from(SCALERS)
)
def test_scalers_take_any_finite_numbers(data, scaler):
    scaled = scaler().fit_transform(data)
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() <= 6**0.5 + 1e-9
    varies = np.ptp(data / 2, axis=0) > 1e-12 * np.abs(data / 2).max(axis=0) + 1e-300
    assert (scaled[:, varies].std(axis=0) > 0.1).all()
