"""The Numba kernels one by one, against NumPy.

These tests also run as plain Python, with NUMBA_DISABLE_JIT=1.
"""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
from builders import (
    EVERYTHING,
    OUTPUTS,
    STEPPING,
    features,
    in_threads,
    learnt,
    network,
    optimizer,
    relative_error,
    targets,
)

from fastnn._kernels import philox as generator
from fastnn._kernels import reference
from fastnn._kernels.tables import LOSSES, OPTIMIZERS
from fastnn.nn.losses import Loss

pytest.importorskip("numba")
from numba import config

from fastnn._kernels.numba_cpu import barrier, philox, update, views
from fastnn._kernels.numba_cpu import compile as compiling
from fastnn._kernels.numba_cpu import gemm as products
from fastnn._kernels.numba_cpu import loss as losses

JIT = not config.DISABLE_JIT
EXACT = {np.float32: 2e-6, np.float64: 1e-14}
# NumPy scalars warn of NaN and overflow
pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning")]
dtypes = pytest.mark.parametrize("dtype", EXACT, ids=["float32", "float64"])


def records(array):
    """Records whose fields are attributes, as they are to compiled code."""
    return (
        array
        if JIT
        else [
            SimpleNamespace(**dict(zip(array.dtype.names, record.item(), strict=True)))
            for record in array
        ]
    )


# --- kernels as Python calls them, kept in the cache ----------------------------------------------

entry = functools.partial(compiling.entry, name="tests")


@entry
def gemm(transpose_a, transpose_b, alpha, a, b, beta, c):
    products.gemm(transpose_a, transpose_b, alpha, a, b, beta, c)


@entry
def double_block(vector, offset, rows, columns):
    block = views.matrix(vector, offset, rows, columns)
    flat = views.segment(vector, offset, rows * columns)
    for i in range(rows):
        for j in range(columns):
            block[i, j] += flat[i * columns + j]


@entry
def dropout_masks(masks, rate, first_row, seed, stream, step):
    philox.dropout_masks(masks, rate, first_row, seed, stream, step)


@entry
def add_noise(z, x, std, first_row, seed, stream, step):
    philox.add_noise(z, x, std, first_row, seed, stream, step)


@entry
def loss_and_gradient(loss, z, d, samples, labels, values, weights, weight_sum):
    return losses.loss_and_gradient(loss, z, d, samples, labels, values, weights, weight_sum)


@entry
def step(optimizer, eta, t, mu_product, decay, w, g, slots):
    mu = update.momentum_factor(optimizer[0], t)
    mu_next = update.momentum_factor(optimizer[0], t + 1)
    rates = update.bias_correction(optimizer[0], eta, decay, t, mu, mu_next, mu_product)
    return update.update(optimizer[0], rates, w, g, slots[0], slots[1])


@entry
def clip(g, limit):
    update.clip(g, limit)
    return update.sum_of_squares(g)


@entry
def limit_columns(w, first, last, max_norm):
    update.limit_columns(w, first, last, max_norm)


@entry
def synchronise(counter, seen, rank, n_threads, rounds):
    """Write the number of the round, wait at a barrier, and check that all others have written it.

    Returns how often one had not, and the number of the next barrier.
    """
    phase, late = 1, 0
    for k in range(rounds):
        seen[rank, 0] = k + 1
        phase = barrier.barrier_wait(counter, phase, n_threads)
        for other in range(n_threads):
            late += seen[other, 0] < k + 1
        phase = barrier.barrier_wait(counter, phase, n_threads)
    return late, phase


# --- GEMM -------------------------------------------------------------------------------------

SHAPES = [
    (1, 1, 1),
    (2, 3, 4),
    (5, 1, 7),
    (1, 17, 1),
    (13, 11, 33),
    (12, 256, 16),
    (25, 30, 70),
    (7, 300, 65),
    (0, 3, 2),
    (3, 2, 0),
    (3, 0, 4),
]


def operands(dtype, transposed, rows, columns, strided, rng):
    """op(A) as numbers, and A as it lies in memory: perhaps the inner columns of a wider matrix."""
    shape = (columns, rows) if transposed else (rows, columns)
    stored = rng.normal(size=(shape[0], shape[1] + 5)).astype(dtype)
    stored = stored[:, 2 : 2 + shape[1]] if strided else stored[:, : shape[1]].copy()
    return (stored.T if transposed else stored).astype(np.float64), stored


@dtypes
@pytest.mark.parametrize("strided", [False, True], ids=["", "strided"])
@pytest.mark.parametrize("transpose_b", [False, True], ids=["B", "Bt"])
@pytest.mark.parametrize("transpose_a", [False, True], ids=["A", "At"])
def test_gemm(transpose_a, transpose_b, strided, dtype):
    rng = np.random.default_rng(0)
    for m, k, n in SHAPES:
        for alpha, beta in ((1.0, 0.0), (-0.5, 1.0), (2.0, 0.7), (0.0, 1.0)):
            op_a, a = operands(dtype, transpose_a, m, k, strided, rng)
            op_b, b = operands(dtype, transpose_b, k, n, strided, rng)
            around = rng.normal(size=(m, n + 4)).astype(dtype)
            if beta == 0:
                around[:, 2 : 2 + n] = np.nan  # does not matter then
            c, before = around[:, 2 : 2 + n], around.copy()
            expected = alpha * (op_a @ op_b) + (
                beta * before[:, 2 : 2 + n].astype(np.float64) if beta else 0
            )
            gemm(transpose_a, transpose_b, alpha, a, b, beta, c)
            scale = np.sqrt(max(k, 1)) * 4
            np.testing.assert_allclose(
                c,
                expected,
                rtol=0,
                atol=EXACT[dtype] * scale,
                err_msg=f"{m} {k} {n} {alpha} {beta}",
            )
            # and nothing beside C is touched
            np.testing.assert_array_equal(around[:, :2], before[:, :2])
            np.testing.assert_array_equal(around[:, 2 + n :], before[:, 2 + n :])


@dtypes
def test_gemm_passes_nan(dtype):
    a, b, c = np.ones((4, 3), dtype), np.ones((3, 20), dtype), np.zeros((4, 20), dtype)
    a[1, 2] = np.nan
    gemm(False, False, 1.0, a[:, 0:3], b[:, 0:20], 0.0, c[:, 0:20])
    np.testing.assert_array_equal(np.isnan(c).any(axis=1), [False, True, False, False])


@dtypes
def test_views(dtype):
    vector = np.arange(20, dtype=dtype)
    double_block(vector, 3, 4, 2)
    np.testing.assert_array_equal(
        vector, np.arange(20) * np.where((np.arange(20) >= 3) & (np.arange(20) < 11), 2, 1)
    )


# --- random numbers -------------------------------------------------------------------------------

SEED, STREAM, STEP = np.uint64(2**63 + 12345), 2 << 16 | 3, 2**32 + 7


@dtypes
@pytest.mark.parametrize("n", [*range(1, 14), 30, 64])
def test_dropout_masks(n, dtype):
    bits = generator.random_bits(int(SEED), STREAM, STEP, n, rows=6)
    for rate in (0.2, 0.5, 0.999):
        expected = np.where(
            bits >= generator.dropout_threshold(rate), dtype(1 / (1 - rate)), dtype(0)
        )
        for cut in range(7):
            masks = np.full((6, n), np.nan, dtype)
            dropout_masks(masks[:cut], rate, 0, SEED, STREAM, STEP)
            dropout_masks(masks[cut:], rate, cut, SEED, STREAM, STEP)
            np.testing.assert_array_equal(masks, expected)


@dtypes
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 30])
def test_noise(n, dtype):
    x = features(5, n).astype(dtype)
    u = (generator.random_bits(int(SEED), STREAM, STEP, 2 * n, rows=5) + 0.5) * 2.0**-32
    expected = x + 0.3 * np.sqrt(-2 * np.log(u[:, :n])) * np.cos(2 * np.pi * u[:, n:])
    z = np.full_like(x, np.nan)
    add_noise(z[:2], x[:2], 0.3, 0, SEED, STREAM, STEP)
    add_noise(z[2:], x[2:], 0.3, 2, SEED, STREAM, STEP)
    np.testing.assert_allclose(z, expected, rtol=0, atol=10 * EXACT[dtype])


# --- losses ---------------------------------------------------------------------------------------


def losses_of(name, outputs):
    row = LOSSES[name]
    if row.levels:
        return [Loss(name, levels=np.linspace(0, 1, outputs + 2)[1:-1] ** p) for p in (1, 3)]
    return [Loss(name), *(Loss(name, **{key: 0.3}) for key in row.constants)]


@dtypes
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("outputs", [1, 2, 9])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, outputs, weighted, dtype):
    n, rng = 12, np.random.default_rng(3)
    chosen = np.array([4, 0, 11, 7, 7])
    weights = rng.uniform(0, 2, n if weighted else 0).astype(dtype)
    chosen_weights = weights[chosen] if weighted else np.ones(5)
    link = LOSSES[name].link
    for loss in losses_of(name, outputs):
        record = loss.record()
        for spread in (1.0, 30.0 if link != "exp" else 3.0):
            z = (spread * rng.normal(size=(5, outputs))).astype(dtype)
            labels = rng.integers(0, outputs, n if link == "softmax" else 0)
            draws = {
                "sigmoid": rng.integers(0, 2, (n, outputs)),
                "exp": rng.poisson(2, (n, outputs)),
            }
            values = draws.get(link, rng.normal(size=(n, outputs))).astype(dtype)
            forms = [
                (labels, np.zeros((0, 1), dtype), np.eye(outputs)[labels]),
                (labels[:0], np.abs(values), np.abs(values)),
            ]
            for given_labels, given_values, t in (
                forms if link == "softmax" else [(labels, values, values)]
            ):
                d = np.full_like(z, np.nan)
                total, correct_weight = loss_and_gradient(
                    records(record),
                    z,
                    d,
                    chosen,
                    given_labels,
                    given_values,
                    weights,
                    float(chosen_weights.sum()),
                )
                z64, t64 = z.astype(np.float64), t[chosen].astype(np.float64)
                each, slope = reference.per_sample_loss(record, z64, t64)
                scale = max(1.0, np.abs(each).max(), np.abs(slope).max())
                assert (
                    abs(total - chosen_weights @ each / chosen_weights.sum())
                    <= 10 * EXACT[dtype] * scale
                )
                np.testing.assert_allclose(
                    d,
                    chosen_weights[:, None] / chosen_weights.sum() * slope,
                    rtol=0,
                    atol=10 * EXACT[dtype] * scale,
                )
                if LOSSES[name].classifies:
                    right = reference.is_correct(record["code"][0], z64, t64)
                    assert correct_weight == pytest.approx(chosen_weights @ right, rel=1e-6)


@dtypes
@pytest.mark.parametrize("name", LOSSES)
def test_losses_pass_nan(name, dtype):
    record = network(EVERYTHING, name).program.loss
    z, d = np.zeros((2, 3), dtype), np.zeros((2, 3), dtype)
    z[1, 1] = np.nan
    nothing = np.zeros(0, dtype)
    total, _ = loss_and_gradient(
        records(record),
        z,
        d,
        np.arange(2),
        np.zeros(0, np.int64),
        np.zeros((2, 3), dtype),
        nothing,
        2.0,
    )
    assert np.isnan(total)
    assert np.isnan(d[1, 1])


# --- updates --------------------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("name", STEPPING)
def test_updates(name, dtype):
    rng, n, decay = np.random.default_rng(5), 37, 0.1
    record, n_slots = optimizer(name).record(), optimizer(name).n_slots
    given = records(record)
    constants = dict(zip(record.dtype.names, record[0].item(), strict=True))
    row = next(row for row in OPTIMIZERS.values() if row.code == constants["code"])
    w = rng.normal(size=n).astype(dtype)
    expected, slots = w.astype(np.float64), np.zeros((n_slots, n))
    m, v = (np.zeros(n if n_slots > k else 0, dtype) for k in range(2))
    mu_product, expected_product = 1.0, np.ones(1)
    for t in range(1, 8):
        g, eta = rng.normal(size=n).astype(dtype), 0.1 / t
        mu_product *= update.momentum_factor(given[0], t)
        before = w.astype(np.float64)
        squares, moved = step(given, eta, t, mu_product, decay, w, g.copy(), (m, v))
        assert squares == pytest.approx(np.square(before).sum(), rel=1e-5)
        # The compiler may take Δw before w + Δw is rounded, which moves each Δw by ½ ε |w|.
        rounding = np.finfo(dtype).eps * np.abs((w - before) * w).sum()
        assert moved == pytest.approx(np.square(w - before).sum(), rel=1e-5, abs=rounding)
        gradient = g.astype(np.float64)
        if row.decoupled_decay:
            expected *= 1 - eta * decay
        else:
            gradient += decay * expected
        take_step = reference.UPDATE_OF[row.code]
        take_step(expected, gradient, slots, eta, constants, t, expected_product)
        np.testing.assert_allclose(w, expected, rtol=0, atol=20 * EXACT[dtype], err_msg=f"step {t}")
    for found, slot in zip((m, v), slots, strict=False):
        if not (name == "sgd" and len(found)):  # without momentum its slot stays unused
            np.testing.assert_allclose(found, slot, rtol=0, atol=20 * EXACT[dtype])


@dtypes
@pytest.mark.parametrize("name", STEPPING)
def test_updates_pass_nan(name, dtype):
    record, n_slots = optimizer(name).record(), optimizer(name).n_slots
    given = records(record)
    w, g = np.ones(20, dtype), np.full(20, 0.1, dtype)
    g[13] = np.nan
    slots = tuple(np.zeros(20 if n_slots > k else 0, dtype) for k in range(2))
    step(given, 0.1, 1, 0.9, 0.0, w, g, slots)
    np.testing.assert_array_equal(np.isnan(w), np.arange(20) == 13)


@dtypes
def test_clip_and_sum_of_squares(dtype):
    g = np.array([-3.0, -0.5, 0.0, 0.25, 0.5, np.inf, -np.inf] * 5, dtype)
    squares = clip(g, 0.5)
    np.testing.assert_array_equal(g, np.array([-0.5, -0.5, 0.0, 0.25, 0.5, 0.5, -0.5] * 5, dtype))
    assert squares == pytest.approx(5 * (5 * 0.25 + 0.0625), rel=1e-12)
    g[3] = np.nan
    assert np.isnan(clip(g, 0.5))
    np.testing.assert_array_equal(np.isnan(g), np.arange(35) == 3)


@dtypes
def test_sum_of_squares_is_a_double(dtype):
    assert clip(np.full(1000, 1e20, dtype), 1e30) == pytest.approx(1e43, rel=1e-6)


@dtypes
def test_limit_columns(dtype):
    w = (features(6, 9) * np.linspace(0.1, 2, 9)).astype(dtype)
    before = w.astype(np.float64)
    limit_columns(w, 2, 8, 1.5)
    norms = np.linalg.norm(before, axis=0)
    limited = (np.arange(9) >= 2) & (np.arange(9) < 8) & (norms > 1.5)
    assert 0 < limited.sum() < 6
    np.testing.assert_allclose(
        w, np.where(limited, before * 1.5 / norms, before), rtol=4 * EXACT[dtype]
    )


# --- threads and the whole ------------------------------------------------------------------------


@pytest.mark.skipif(not JIT, reason="without the JIT there is one thread")
@pytest.mark.parametrize("n_threads", [1, 2, 3, 4])
def test_threads_wait_at_barriers(n_threads):
    counter, seen, results = (
        np.zeros(3, np.int64),
        np.zeros((n_threads, 8), np.int64),
        [None] * n_threads,
    )
    # compiled, or loaded
    synchronise(np.zeros(3, np.int64), np.zeros((1, 8), np.int64), 0, 1, 1)

    def run(rank):
        results[rank] = synchronise(counter, seen, rank, n_threads, 300)

    in_threads(*(functools.partial(run, rank) for rank in range(n_threads)))
    assert results == [(0, 601)] * n_threads
    assert counter[0] == (600 * n_threads if n_threads > 1 else 0)


def test_one_thread_need_not_wait():
    assert synchronise(np.zeros(3, np.int64), np.zeros((1, 8), np.int64), 0, 1, 5) == (0, 11)


@pytest.mark.parametrize("name", STEPPING)
def test_a_tiny_network_trains_as_the_reference(name):
    nets = [network(EVERYTHING, "mse", engine) for engine in ("numba", "numpy")]
    for net in nets:
        net.fit(
            features(8),
            targets("values", 8, OUTPUTS),
            batch_size=3,
            optimizer=optimizer(name, clip_norm=0.5, weight_decay=0.01),
        )
        assert net.state.step == 3
    for key, values in learnt(nets[0]).items():
        assert relative_error({key: values}, {key: learnt(nets[1])[key]}) <= 1e-9, key
