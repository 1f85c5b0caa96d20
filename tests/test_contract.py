"""What no engine may lack: the contract's methods and every row of the tables.

A failure names what is missing, the engine and the file.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import (
    ENGINES,
    INNER_LAYERS,
    INPUTS,
    LOSS_CASES,
    OUTPUTS,
    STACKS,
    STEPPING,
    WIDTH,
    assert_same_bits,
    example,
    features,
    flat,
    network,
    optimizer,
    relative_error,
    sample_weights,
    targets,
)

import fastnn as fnn
from fastnn import _kernels
from fastnn._kernels import opcodes
from fastnn._kernels.contract import Chunk, Engine
from fastnn._kernels.reference import is_correct, per_sample_loss, target_values
from fastnn._kernels.tables import ACTIVATIONS, LOSSES, OPTIMIZERS
from fastnn.engines import ENGINES as TABLE
from fastnn.training.samples import checked_samples

ROWS, BATCH = 23, 6
STATISTICS = ("DELTA", "GRADIENT", "WEIGHT", "UPDATE", "VALUES", "SQUARES", "DEAD", "SATURATED")


@pytest.mark.parametrize("name", ENGINES)
def test_signatures_are_the_contracts(name):
    module, _, attribute = TABLE[name].location.partition(":")
    engine = getattr(importlib.import_module(module), attribute)
    for method, function in inspect.getmembers(Engine, inspect.isfunction):
        if method == "__init__" or not method.startswith("_"):
            assert hasattr(engine, method), f"{name} lacks {method}"
            assert inspect.signature(getattr(engine, method)) == inspect.signature(function), (
                f"{name}.{method}"
            )


def test_an_unavailable_engine_says_why():
    for name, status in fnn.backends().items():
        if status != "available":
            assert status.startswith("unavailable: ")
            with pytest.raises(RuntimeError, match="cannot run here"):
                fnn.Network([fnn.Dense(1)], 1, "mse", backend=name)


# --- what engines compute -------------------------------------------------------------------------


def check(
    engine: str,
    what: str,
    cases: Iterable[str],
    compute: Callable[[str, str], dict],
    alike: tuple[str, ...] = (),
):
    """In each case the engine computes what the reference does.

    No two cases give the same numbers, except those that are ``alike``.
    """
    found, wrong = {}, []
    for case in cases:
        try:
            found[case] = compute(engine, case)
            right = relative_error(found[case], compute("numpy", case)) <= 1e-9
        except (KeyError, ValueError):  # an engine that lacks a case may say so
            right = False
        if not right:
            wrong.append(case)
    assert not wrong, f"the engine {engine!r} lacks or mistakes the {what}: {', '.join(wrong)}"
    bits = {case: flat(result).tobytes() for case, result in found.items() if case not in alike}
    duplicates = [case for case in bits if list(bits.values()).count(bits[case]) > 1]
    assert not duplicates, (
        f"the engine {engine!r} makes no difference between the {what}: {', '.join(duplicates)}"
    )


def gradients(engine, layers, loss="quadratic", **options):
    net = network(layers, LOSS_CASES[loss][0], engine)
    X = features(ROWS)
    codes = len(net.program.cardinalities)
    X[:, net.inputs - codes :] = np.arange(ROWS * codes).reshape(ROWS, codes) % 2
    return net.gradients(X, targets(LOSS_CASES[loss][1], ROWS), training=True, **options)[1]


def test_no_engine_forgets_an_activation(engine):
    def compute(name, activation):
        layers = [fnn.Dense(WIDTH, activation), fnn.Dense(OUTPUTS)]
        return {
            "output": network(layers, backend=name).forward(3 * features(ROWS)),
            **gradients(name, layers),
        }

    check(engine, "activations", ACTIVATIONS, compute)


@pytest.mark.parametrize("weights", [None, sample_weights(ROWS)], ids=["", "weighted"])
def test_no_engine_forgets_a_loss(engine, weights):
    """With each kind of targets: labels, which softmax cross-entropy takes, and values."""
    layers = [fnn.Dense(WIDTH, "tanh"), fnn.Dense(OUTPUTS)]
    check(
        engine,
        "losses",
        LOSS_CASES,
        lambda name, case: gradients(name, layers, case, sample_weight=weights),
    )


def test_no_engine_forgets_a_link(engine):
    losses = {row.link: name for name, row in LOSSES.items()}
    assert set(losses) == set(opcodes.LINKS)

    def compute(name, link):
        net = network([fnn.Dense(WIDTH, "tanh"), fnn.Dense(OUTPUTS)], losses[link], name)
        return {"predictions": net.engine.forward(net.state, features(ROWS), linked=True)[0]}

    check(engine, "links", losses, compute)


def test_no_engine_forgets_a_layer_or_operation(engine):
    stacks = {kind: example(kind) for kind in INNER_LAYERS} | STACKS
    stacks["Embedding"] = [fnn.Embedding([2, 3], 3), fnn.Dense(OUTPUTS)]
    codes = {
        code for layers in stacks.values() for code in network(layers).program.ops["code"].tolist()
    }
    assert codes == set(opcodes.OPERATIONS.values())
    check(engine, "layers", stacks, lambda name, stack: gradients(name, stacks[stack]))


def test_no_engine_forgets_an_optimizer(engine):
    def compute(name, case):
        net = network([fnn.Dense(WIDTH, "tanh"), fnn.Dense(OUTPUTS)], backend=name)
        net.fit(
            features(ROWS),
            targets("values", ROWS),
            epochs=2,
            batch_size=BATCH,
            optimizer=optimizer(case),
        )
        return net.parameters

    # AdamW differs from Adam by its default decay, which is too small to see.
    check(engine, "optimisers", STEPPING, compute, alike=("adamw",))


def test_no_engine_forgets_a_statistic(engine):
    layers = [fnn.Dense(WIDTH, "relu"), fnn.Dense(40, "tanh"), fnn.LayerNorm(), fnn.Dense(OUTPUTS)]
    X, y, sgd = 3 * features(ROWS), targets("values", ROWS), fnn.SGD(0.05, momentum=0.5).record()
    chunk = Chunk(np.arange(ROWS), np.array([0, ROWS]), np.array([0.1]), sgd, ROWS, every=1)

    def compute(name, statistic):
        net = network(layers, backend=name)
        net.parameters["0.bias"] -= 2
        net.use_optimizer("SGD")
        return {
            "sums": net.engine.train_steps(net.state, checked_samples(net, X, y), chunk).statistics[
                0, :, getattr(opcodes, statistic)
            ]
        }

    assert len(STATISTICS) == opcodes.N_STATISTICS
    check(engine, "statistics", STATISTICS, compute)


def test_no_engine_forgets_an_activation_that_saturates(engine):
    names = [name for name, row in ACTIVATIONS.items() if row.saturation]

    def compute(name, activation):
        net = network([fnn.Dense(70, activation), fnn.Dense(OUTPUTS)], backend=name)
        log, _ = net.engine.gradients(
            net.state,
            checked_samples(net, 9 * features(ROWS), targets("values", ROWS)),
            True,
            measure=True,
        )
        return {"saturated": log.statistics[0, :1, opcodes.SATURATED]}

    check(engine, "activations that saturate", names, compute)


# --- evaluation -----------------------------------------------------------------------------------

LONG = 437  # more rows than several threads predict at a time, 96 each, and no multiple of it
EVALUATED = [fnn.Dense(WIDTH, "tanh"), fnn.BatchNorm(), fnn.Dropout(0.4), fnn.Dense(OUTPUTS)]


def evaluation_samples(net, kind, rows=LONG, weighted=False):
    weights = sample_weights(rows) if weighted else None
    return checked_samples(net, features(rows), targets(kind, rows), sample_weight=weights)


def assert_same_evaluation(found, expected, **tolerance):
    tolerance = tolerance or {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(found.outputs, expected.outputs, **tolerance)
    for name in ("loss", "weight", "correct_weight"):
        assert isinstance(getattr(found, name), float), name
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), **tolerance, err_msg=name
        )


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("case", LOSS_CASES)
def test_evaluation_is_the_references(engine, case, weighted, threads, use_threads):
    use_threads(threads)
    loss, kind = LOSS_CASES[case]
    for rows in (1, ROWS, LONG):
        found, expected = (
            net.engine.evaluate(net.state, evaluation_samples(net, kind, rows, weighted))
            for net in (network(EVALUATED, loss, name) for name in (engine, "numpy"))
        )
        assert_same_evaluation(found, expected)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("case", LOSS_CASES)
def test_the_reference_evaluates_by_its_formulas(case, weighted):
    loss, kind = LOSS_CASES[case]
    net = network(EVALUATED, loss)
    samples = evaluation_samples(net, kind, weighted=weighted)
    found, t = net.engine.evaluate(net.state, samples), target_values(samples, OUTPUTS)
    z, weights = net.engine.forward(net.state, samples.X)[0], np.ones(LONG)
    if weighted:
        weights = samples.weights
    each, code = per_sample_loss(net.program.loss, z, t)[0], int(net.program.loss["code"][0])
    classifies = LOSSES[net.loss.name].classifies
    np.testing.assert_array_equal(found.outputs, z)
    assert found.loss == pytest.approx(np.average(each, weights=weights), rel=1e-12)
    assert found.weight == weights.sum()
    assert found.correct_weight == (weights @ is_correct(code, z, t) if classifies else 0)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_labels_are_evaluated_as_one_hot_rows(engine, smoothing):
    net = network(EVALUATED, fnn.Loss("softmax_cross_entropy", label_smoothing=smoothing), engine)
    labels = evaluation_samples(net, "labels", weighted=True)
    one_hot = replace(labels, labels=None, values=np.eye(OUTPUTS)[labels.labels])
    found = net.engine.evaluate(net.state, labels)
    assert_same_evaluation(found, net.engine.evaluate(net.state, one_hot))
    assert 0 < found.correct_weight < found.weight


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("softmax_cross_entropy", 2),
        ("softmax_cross_entropy", 33),
        ("binary_cross_entropy", 1),
        ("binary_cross_entropy", 2),
        ("binary_cross_entropy", 33),
    ],
)
def test_correct_weight_of_any_number_of_outputs(engine, name, classes):
    kind = "labels" if LOSSES[name].link == "softmax" else "bits"
    found = []
    for each in (engine, "numpy"):
        net = network([fnn.Dense(classes)], name, each)
        y, weights = targets(kind, LONG, classes), sample_weights(LONG)
        samples = checked_samples(net, features(LONG), y, sample_weight=weights)
        found.append(net.engine.evaluate(net.state, samples))
    assert_same_evaluation(*found)


def test_evaluation_leaves_the_state_and_later_steps_alone(engine):
    nets = [network(EVALUATED, backend=engine) for _ in range(2)]
    samples = evaluation_samples(nets[0], "values")
    before = nets[0].state.theta.copy(), nets[0].state.buffers.copy(), nets[0].state.step
    for _ in range(2):
        nets[0].engine.evaluate(nets[0].state, samples)
    np.testing.assert_array_equal(nets[0].state.theta, before[0])
    np.testing.assert_array_equal(nets[0].state.buffers, before[1])
    assert nets[0].state.step == before[2]
    for net in nets:
        net.fit(samples.X, samples.values, epochs=1, batch_size=BATCH)
    assert_same_bits(*nets)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_evaluation_outputs_are_those_of_forward(engine, dtype):
    net = network(EVALUATED, backend=engine, dtype=dtype)
    samples = evaluation_samples(net, "values")
    outputs = net.engine.evaluate(net.state, samples).outputs
    assert outputs.dtype == dtype
    np.testing.assert_array_equal(outputs, net.engine.forward(net.state, samples.X)[0])


def test_evaluation_of_samples_that_weigh_nothing(engine):
    net = network(EVALUATED, backend=engine)
    samples = replace(evaluation_samples(net, "values"), weights=np.zeros(LONG))
    found = net.engine.evaluate(net.state, samples)
    assert (found.loss, found.weight, found.correct_weight) == (0.0, 0.0, 0.0)


def test_an_evaluation_that_overflows_is_not_finite(engine):
    net = network([fnn.Dense(OUTPUTS)], "mse", engine)
    net.state.theta[:] = 1e200
    assert not np.isfinite(net.engine.evaluate(net.state, evaluation_samples(net, "values")).loss)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_is_finite(engine, dtype):
    net = network([fnn.Dense(OUTPUTS)], backend=engine, dtype=dtype)
    for shape in ((1, 1), (3, INPUTS), (1001, 17)):
        X = np.full(shape, np.finfo(dtype).max, dtype)
        assert net.engine.is_finite(X) is True
        for value in (np.nan, np.inf, -np.inf):
            for at in (0, X.size // 2, X.size - 1):
                nonfinite = X.copy()
                nonfinite.flat[at] = value
                assert net.engine.is_finite(nonfinite) is False


# --- where engines say it -------------------------------------------------------------------------

ELEMENTWISE = [name for name, row in LOSSES.items() if row.elementwise]
WHOLE = [name for name, row in LOSSES.items() if not row.elementwise]
OPERATIONS = list(opcodes.OPERATIONS)
LINKS = ["softmax", "logistic", "exponential", "sorted"]  # identity does nothing
NONLINEAR = [name for name in ACTIVATIONS if name != "linear"]
NEEDS_Z = [name for name in NONLINEAR if ACTIVATIONS[name].needs_z]
FROM_OUTPUT = [name for name in NONLINEAR if not ACTIVATIONS[name].needs_z]
# Files of an engine, the word in them that stands for an entry, and the entries: between them, the
# files must name each.
FILES = [
    ("numpy", "reference_engine.py", "{NAME}", OPERATIONS),
    ("numpy", "reference_engine.py", "{NAME}", STATISTICS),
    ("numpy", "reference.py", "{NAME}", LINKS),
    ("numpy", "reference.py", '"{name}":', ACTIVATIONS),
    ("numpy", "reference.py", '"{name}":', LOSSES),
    ("numpy", "reference.py", '"{name}":', OPTIMIZERS),
    ("numba", "scalars.py", "f_{name}", ACTIVATIONS),
    ("numba", "scalars.py", "d_{name}", ACTIVATIONS),
    ("numba", "scalars.py", "l_{name}", ELEMENTWISE),
    ("numba", "scalars.py", "u_{name}", OPTIMIZERS),
    ("numba", "numba_cpu/loss.py", "{NAME}", [*WHOLE, *LINKS]),
    ("numba", "numba_cpu/steps.py", "{NAME}", OPERATIONS),
    ("numba", "numba_cpu/statistics.py numba_cpu/gradients.py", "{NAME}", STATISTICS),
    ("cython", "cython_cpu/scalars.pxi", "f_{name}", FROM_OUTPUT),
    ("cython", "cython_cpu/scalars.pxi", "d_{name}", FROM_OUTPUT),
    ("cython", "cython_cpu/scalars.pxi", "fd_{name}", NEEDS_Z),
    ("cython", "cython_cpu/scalars.pxi", "{NAME}", OPTIMIZERS),
    ("cython", "cython_cpu/loss.pxi", "{NAME}", [*LOSSES, *LINKS]),
    ("cython", "cython_cpu/steps.pxi", "{NAME}", OPERATIONS),
    ("cython", "cython_cpu/statistics.pxi cython_cpu/gradients.pxi", "{NAME}", STATISTICS),
]


def missing_entries(text, word, entries):
    """The words that a text lacks; a comment counts, as where the last entry is what remains."""
    words = [word.format(name=entry, NAME=entry.upper()) for entry in entries]
    return [word for word in words if not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)]


def test_links_are_those_of_the_opcodes():
    names = {getattr(opcodes, name.upper()) for name in LINKS}
    assert names == set(opcodes.LINKS.values()) - {opcodes.IDENTITY}


@pytest.mark.parametrize(("name", "files", "word", "entries"), FILES)
def test_no_file_forgets_an_entry(name, files, word, entries):
    """Also where the engine cannot run."""
    paths = [Path(_kernels.__file__).parent / file for file in files.split()]
    if not all(path.exists() for path in paths):
        pytest.skip(f"{files} are not installed: the engine is here only as compiled")
    missing = missing_entries("\n".join(map(Path.read_text, paths)), word, entries)
    assert not missing, f"{files} of the engine {name!r} lacks {', '.join(missing)}"


def test_a_file_that_forgets_an_entry_is_told():
    assert missing_entries("f_relu, fd_gelu, f_relu6", "f_{name}", ["relu", "gelu"]) == ["f_gelu"]
