"""What users pass: every container and dtype arrives right, and every mistake is named."""

import re
import tracemalloc
import warnings
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastnn.data import validation
from fastnn.data.targets import as_targets, class_weights

FLOATS = (np.float32, np.float64)
X = np.arange(12, dtype=np.float64).reshape(4, 3) / 8
LABELS = np.array([0, 2, 1, 2])


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class OnlyDLPack:
    """An array that speaks nothing but DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def raises(error, *parts):
    return pytest.raises(error, match=".*".join(re.escape(part) for part in parts))


# --- features -------------------------------------------------------------------------------------


def containers():
    read_only = X.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(np.float64).reshape(X.shape)
    return {
        "list": X.tolist(),
        "fortran": np.asfortranarray(X),
        "read-only": read_only,
        "strided": np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
        "reversed": X[::-1].copy()[::-1],
        "unaligned": unaligned,
        "big-endian": X.astype(">f8"),
        "float16": X.astype(np.float16),
        "longdouble": X.astype(np.longdouble),
        "object": X.astype(object),
        "decimal": np.vectorize(Decimal, otypes=[object])(X),
        "unmasked": np.ma.array(X),
        "dlpack": OnlyDLPack(X),
    }


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", containers())
def test_features_from_any_container(name, dtype):
    result = validation.as_features(containers()[name], dtype, n_inputs=3)
    assert type(result) is np.ndarray
    assert result.dtype == dtype
    assert result.flags.c_contiguous
    assert result.flags.aligned
    np.testing.assert_array_equal(result, X.astype(dtype))


@given(
    hnp.arrays(
        st.one_of(hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.boolean_dtypes()),
        hnp.array_shapes(min_dims=2, max_dims=2),
    )
)
def test_features_from_any_whole_numbers(array):
    np.testing.assert_array_equal(
        validation.as_features(array, np.float32), array.astype(np.float32)
    )


def test_features_from_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]})
    np.testing.assert_array_equal(
        validation.as_features(frame, np.float32), [[1, 0.5, 1], [2, 1.5, 0]]
    )
    nullable = pandas.DataFrame({"a": [1, 2], "b": [3, None]}, dtype="Int64")
    np.testing.assert_array_equal(validation.as_features(nullable[["a"]], np.float32), [[1], [2]])
    with raises(TypeError, "X is <NA> at row 1, column 1"):
        validation.as_features(nullable, np.float32)


def test_features_from_tensors():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(X)
    assert np.shares_memory(validation.as_features(tensor, np.float64), tensor.numpy())
    with raises(TypeError, "X cannot be read as an array", "detach"):
        validation.as_features(tensor.requires_grad_(), np.float64)


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_copy_where_none_is_needed(dtype, tmp_path):
    array = X.astype(dtype)
    mapped = np.memmap(tmp_path / "x", dtype, "w+", shape=array.shape)
    mapped[:] = array
    read_only = array.copy()
    read_only.flags.writeable = False
    for given_ in (
        array,
        mapped,
        np.memmap(tmp_path / "x", dtype, "r", shape=array.shape),
        read_only,
        OnlyDLPack(array),
    ):
        result = validation.as_features(given_, dtype)
        assert np.shares_memory(result, getattr(given_, "array", given_))


@pytest.mark.parametrize("shape", [(4096, 1024), (2, 2048 * 1024)])  # 16 MB: a mask would take 4
def test_the_check_for_bad_values_needs_little_memory(shape):
    array = np.ones(shape, np.float32)
    validation.as_features(array, np.float32)
    tracemalloc.start()
    validation.as_features(array, np.float32)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@given(
    st.sampled_from([(3, 5), (700, 1000), (2, 400_000)]),
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.sampled_from(FLOATS),
    st.data(),
)
def test_the_first_bad_value_is_named(shape, bad, dtype, data):
    array = np.zeros(shape, np.float32)
    places = data.draw(
        st.lists(st.tuples(*(st.integers(0, n - 1) for n in shape)), min_size=1, max_size=3)
    )
    for place in places:
        array[place] = bad
    row, column = min(places)
    with raises(ValueError, f"X is {bad} at row {row}, column {column};"):
        validation.as_features(array, dtype)


def test_sums_may_overflow_but_numbers_may_not():
    large = np.full((4, 3), 3e38, np.float32)
    assert validation.as_features(large, np.float32) is large
    with raises(ValueError, "X is 1e+300 at row 1, column 0; too large for float32"):
        validation.as_features([[1, 2], [1e300, 1e301]], np.float32)
    assert validation.as_features([[1e300]], np.float64) == 1e300


SHAPE_MISTAKES = [
    (np.ones(3), "X is 1-D with shape (3,)", "X[None, :]", "X[:, None]"),
    (np.ones((2, 3, 1)), "X is 3-D with shape (2, 3, 1)"),
    (5, "X is 0-D"),
    (np.ones((4, 5)), "X has 5 columns, but the network takes 3"),
    (np.ones((0, 3)), "X is empty", "0 rows"),
    (np.ones((3, 0)), "X is empty", "0 columns"),
    ([[1, 2, 3], [4]], "X cannot be read as an array", "inhomogeneous"),
    (np.ma.array([[1.0, 2, 3]], mask=[[0, 1, 0]]), "X has masked values"),
]


@pytest.mark.parametrize(
    ("mistake", "parts"), [(mistake, parts) for mistake, *parts in SHAPE_MISTAKES]
)
def test_shape_mistakes(mistake, parts):
    with raises(ValueError, *parts):
        validation.as_features(mistake, np.float32, n_inputs=3)


class Sparse:
    def toarray(self):
        raise AssertionError("nothing becomes dense by itself")


TYPE_MISTAKES = [
    (None, "X is None"),
    ([[1, None]], "X is None at row 0, column 1"),
    ([[1j]], "complex128"),
    ([["1", "2"]], "X is '1' at row 0, column 0", "encode"),
    (np.array([[1, "red"]], object), "X is 'red' at row 0, column 1", "encode"),
    (np.array([[b"red"]]), "X is b'red'"),
    (np.array([["2020-01-01"]], "M8[D]"), "datetime64"),
    (np.zeros(2, "f4,i4"), "X has dtype"),
    ([[{}]], "X is {} at row 0, column 0"),
    ([[10**400]], "at row 0, column 0"),
    (Sparse(), "X is sparse (Sparse)", "X.toarray()"),
]


@pytest.mark.parametrize(
    ("mistake", "parts"), [(mistake, parts) for mistake, *parts in TYPE_MISTAKES]
)
def test_type_mistakes(mistake, parts):
    with raises(TypeError, *parts):
        validation.as_features(mistake, np.float32)


def test_scipy_matrices_are_sparse():
    sparse = pytest.importorskip("scipy.sparse")
    for make in (sparse.csr_matrix, sparse.coo_array):
        with raises(TypeError, "use X.toarray()"):
            validation.as_features(make(X), np.float32)


def test_errors_call_the_array_by_its_name():
    with raises(ValueError, "validation X is 1-D", "validation X[None, :]"):
        validation.as_features([1.0], np.float32, name="validation X")


# --- sample weights -------------------------------------------------------------------------------


def test_sample_weight():
    weight = validation.as_sample_weight([0, 1, 2], 3, np.float32)
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, [0, 1, 2])


@pytest.mark.parametrize(
    ("weight", "part"),
    [
        ([1, -2, 1], "sample_weight is -2.0 at row 1"),
        ([1, 1, np.nan], "sample_weight is nan at row 2"),
        ([0, 0, 0], "zero for every sample"),
        ([1, 1], "sample_weight has 2 entries, but X has 3 rows"),
        ([[1], [1], [1]], "sample_weight has shape (3, 1)"),
        ([1, 1, np.inf], "sample_weight is inf at row 2"),
    ],
)
def test_sample_weight_mistakes(weight, part):
    with raises(ValueError, part):
        validation.as_sample_weight(weight, 3, np.float32)


# --- targets --------------------------------------------------------------------------------------


def label_containers():
    dtypes = (np.uint8, np.int8, np.int32, np.uint64, np.float16, np.float32, np.float64, object)
    return {
        **{np.dtype(dtype).name: LABELS.astype(dtype) for dtype in dtypes},
        "list": LABELS.tolist(),
        "column": LABELS[:, None],
        "strided": np.repeat(LABELS, 2)[::2],
        "dlpack": OnlyDLPack(LABELS),
    }


@pytest.mark.parametrize("name", label_containers())
def test_labels_from_any_container(name):
    targets = as_targets(label_containers()[name], 4, 3, "softmax_cross_entropy", np.float32)
    assert targets.labels is not None
    assert targets.values is None
    assert targets.labels.shape == (4,)
    assert targets.labels.dtype == np.int64
    assert targets.labels.flags.c_contiguous
    np.testing.assert_array_equal(targets.labels, LABELS)


def test_labels_from_frames_and_tensors():
    pandas, torch = pytest.importorskip("pandas"), pytest.importorskip("torch")
    series = pandas.Series(LABELS, index=[9, 8, 7, 6])
    for labels in (
        series,
        series.to_frame(),
        series.astype("Int64"),
        series.astype("category"),
        torch.tensor(LABELS),
    ):
        np.testing.assert_array_equal(
            as_targets(labels, 4, 3, "softmax_cross_entropy", np.float32).labels, LABELS
        )


def test_bool_labels():
    np.testing.assert_array_equal(
        as_targets([True, False], 2, 2, "softmax_cross_entropy", np.float32).labels,
        [1, 0],
    )


def test_int64_labels_are_not_copied():
    assert np.shares_memory(
        as_targets(LABELS, 4, 3, "softmax_cross_entropy", np.float32).labels, LABELS
    )


@given(
    st.integers(1, 300),
    st.one_of(st.integers(-(2**62), -1), st.integers(300, 2**62)),
    st.integers(0, 5),
)
def test_the_first_bad_label_is_named(n_classes, bad, row):
    labels = np.zeros(7, np.int64)
    labels[[row, 6]] = bad
    with raises(
        ValueError,
        f"y is {bad} at row {row}; class labels are whole numbers from 0 to {n_classes - 1}",
    ):
        as_targets(labels, 7, n_classes, "softmax_cross_entropy", np.float32)


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf, 1e300, -1.0])
def test_float_labels_must_be_labels(bad):
    with raises(ValueError, f"y is {bad} at row 1"):
        as_targets([0, bad], 2, 3, "softmax_cross_entropy", np.float32)


@pytest.mark.parametrize("dtype", FLOATS)
def test_probabilities(dtype):
    for y in (
        np.eye(3),
        np.eye(3, dtype=int),
        [[0.2, 0.3, 0.5], [1, 0, 0], [0.3333, 0.3333, 0.3333]],
    ):
        targets = as_targets(y, 3, 3, "softmax_cross_entropy", dtype)
        assert targets.labels is None
        assert targets.values.dtype == dtype
        np.testing.assert_allclose(targets.values, y, rtol=1e-6)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "mse", "quadratic"])
@pytest.mark.parametrize("y", [LABELS, LABELS[:, None], LABELS.astype(np.uint8)])
def test_integer_labels_become_one_hot(loss, y):
    targets = as_targets(y, 4, 3, loss, np.float32)
    assert targets.values.dtype == np.float32
    np.testing.assert_array_equal(targets.values, np.eye(3)[LABELS])


@pytest.mark.parametrize(
    "loss", ["binary_cross_entropy", "mse", "quadratic", "mae", "huber", "poisson"]
)
def test_values(loss):
    y = X[:, :2] / 2
    np.testing.assert_array_equal(as_targets(y, 4, 2, loss, np.float64).values, y)
    for single in (y[:, 0], y[:, :1], y[:, 0].tolist()):
        np.testing.assert_array_equal(as_targets(single, 4, 1, loss, np.float64).values, y[:, :1])
    np.testing.assert_array_equal(as_targets([0, 1], 2, 1, loss, np.float32).values, [[0], [1]])


VALUE_MISTAKES = [
    ("softmax_cross_entropy", [[0.5, 0.5], [0.5, 0.4]], "the sum of y is 0.9", "at row 1"),
    ("softmax_cross_entropy", [[0.5, 0.5], [1.5, -0.5]], "y is -0.5 at row 1, column 1"),
    ("softmax_cross_entropy", [[0.5, 0.5], [np.nan, 1]], "y is nan at row 1, column 0"),
    ("softmax_cross_entropy", np.eye(3)[:2], "y has 3 columns, but the network has 2 outputs"),
    ("binary_cross_entropy", [[0, 1], [0, 1.5]], "y is 1.5 at row 1, column 1"),
    ("binary_cross_entropy", [0, 2], "y is 2 at row 1; class labels are whole numbers from 0 to 1"),
    ("mse", [0.0, 1.0], "y is 1-D of dtype float64; expected shape (2, 2)"),
    ("mse", [[0, 1], [0, np.inf]], "y is inf at row 1, column 1"),
    ("quadratic", [[0, 1], [0, 1e300]], "y is 1e+300 at row 1, column 1; too large for float32"),
    ("mae", [0, 1], "y is 1-D of dtype int64; expected shape (2, 2)"),
    ("poisson", [[0, 1], [-1, 2]], "y is -1.0 at row 1, column 0"),
    ("huber", np.ones((2, 2, 2)), "y is 3-D"),
    ("huber", 3.0, "y is 0-D"),
    ("huber", np.ones((5, 2)), "y has 5 rows, but X has 2"),
]


@pytest.mark.parametrize(
    ("loss", "y", "parts"), [(loss, y, parts) for loss, y, *parts in VALUE_MISTAKES]
)
def test_value_mistakes(loss, y, parts):
    with raises(ValueError, *parts):
        as_targets(y, 2, 2, loss, np.float32)


@pytest.mark.parametrize("y", [["cat", "dog"], np.array(["cat", "dog"], object)])
def test_text_labels(y):
    with raises(TypeError, "y is 'cat' at row 0", "encode"):
        as_targets(y, 2, 2, "softmax_cross_entropy", np.float32)


# --- class weights --------------------------------------------------------------------------------


def test_class_weights():
    np.testing.assert_array_equal(class_weights({2: 3, 0: 0.5}, LABELS, 3), [0.5, 3, 1, 3])
    np.testing.assert_array_equal(class_weights({}, LABELS, 3), np.ones(4))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=50).map(np.array))
def test_balanced_classes_count_alike(labels):
    weights = class_weights("balanced", labels, 5)
    totals = np.bincount(labels, weights, 5)
    np.testing.assert_allclose(totals[totals > 0], len(labels) / 5)


@pytest.mark.parametrize(
    ("error", "class_weight", "part"),
    [
        (ValueError, {3: 1}, "class_weight names class 3; the classes are 0 to 2"),
        (ValueError, {"cat": 1}, "class_weight names class 'cat'"),
        (ValueError, {-1: 1}, "class_weight names class -1"),
        (ValueError, {0: -1}, "class_weight is -1"),
        (ValueError, {0: np.inf}, "class_weight is inf"),
        (ValueError, "equal", "class_weight is 'equal'; expected \"balanced\""),
        (TypeError, 3, "class_weight is a int"),
        (TypeError, {0: "much"}, "class_weight is 'much'"),
    ],
)
def test_class_weight_mistakes(error, class_weight, part):
    with raises(error, part):
        class_weights(class_weight, LABELS, 3)
