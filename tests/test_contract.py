"""What no engine may lack: the contract's methods and every entry of the tables. A failure names
what is missing, the engine, the file.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from builders import (
    ENGINES,
    LOSS_CASES,
    OUTPUTS,
    STACKS,
    STEPPING,
    WIDTH,
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
from fastnn.data.samples import checked_samples
from fastnn.engines import ENGINES as TABLE
from fastnn.nn.activations import ACTIVATIONS
from fastnn.nn.layers import LAYERS
from fastnn.nn.losses import LOSSES
from fastnn.optim.optimizers import OPTIMIZERS

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
    """In each case the engine computes what the reference does, and no two cases give the same, but
    for those that are ``alike``.
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
    twins = [case for case in bits if list(bits.values()).count(bits[case]) > 1]
    assert not twins, (
        f"the engine {engine!r} makes no difference between the {what}: {', '.join(twins)}"
    )


def gradients(engine, layers, loss="quadratic", **options):
    net = network(layers, LOSS_CASES[loss][0], engine)
    return net.gradients(
        features(ROWS), targets(LOSS_CASES[loss][1], ROWS), training=True, **options
    )[1]


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
    """With each kind of targets: labels, which only softmax takes, and values."""
    layers = [fnn.Dense(WIDTH, "tanh"), fnn.Dense(OUTPUTS)]
    check(
        engine,
        "losses",
        LOSS_CASES,
        lambda name, case: gradients(name, layers, case, sample_weight=weights),
    )


def test_no_engine_forgets_a_link(engine):
    losses = {spec.link: name for name, spec in LOSSES.items()}
    assert set(losses) == set(opcodes.LINKS)

    def compute(name, link):
        net = network([fnn.Dense(WIDTH, "tanh"), fnn.Dense(OUTPUTS)], losses[link], name)
        return {"predictions": net.engine.forward(net.state, features(ROWS), linked=True)[0]}

    check(engine, "links", losses, compute)


def test_no_engine_forgets_a_layer_or_operation(engine):
    stacks = {kind: example(kind) for kind in LAYERS} | STACKS
    codes = {
        code for layers in stacks.values() for code in network(layers).program.ops["code"].tolist()
    }
    assert codes == set(opcodes.OPERATIONS.values())
    check(engine, "layers", stacks, lambda name, stack: gradients(name, stacks[stack]))


def test_no_engine_forgets_an_optimizer(engine):
    def compute(name, rule):
        net = network([fnn.Dense(WIDTH, "tanh"), fnn.Dense(OUTPUTS)], backend=name)
        net.fit(
            features(ROWS),
            targets("values", ROWS),
            epochs=2,
            batch_size=BATCH,
            optimizer=optimizer(rule),
        )
        return net.parameters

    # by its default decay, too little to see
    check(engine, "optimisers", STEPPING, compute, alike=("adamw",))


def test_no_engine_forgets_a_statistic(engine):
    layers = [fnn.Dense(WIDTH, "relu"), fnn.Dense(40, "tanh"), fnn.LayerNorm(), fnn.Dense(OUTPUTS)]
    X, y, rule = 3 * features(ROWS), targets("values", ROWS), fnn.SGD(0.05, momentum=0.5).record()
    chunk = Chunk(np.arange(ROWS), np.array([0, ROWS]), np.array([0.1]), rule, ROWS, every=1)

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
    names = [name for name, spec in ACTIVATIONS.items() if spec.code in opcodes.SATURATES]
    assert len(names) == len(opcodes.SATURATES)

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


# --- where engines say it -------------------------------------------------------------------------

# A table → the names of its entries in `opcodes`, but for those that do nothing.
TABLES = {
    "operations": [name.upper() for name in opcodes.OPERATIONS],
    "activations": [name.upper() for name in ACTIVATIONS if name != "linear"],
    "losses": [name.upper() for name in LOSSES],
    "links": ["SOFTMAX", "LOGISTIC", "EXPONENTIAL"],
    "optimisers": [name.upper() for name in OPTIMIZERS if name != "lbfgs"],
    "statistics": STATISTICS,
}
# An engine → the files that must name each of them, between them.
FILES = {
    "numpy": {table: ["reference.py"] for table in TABLES},
    "numba": {
        "operations": ["numba_cpu/steps.py"],
        "activations": ["numba_cpu/elementwise.py"],
        "losses": ["numba_cpu/loss.py"],
        "links": ["numba_cpu/loss.py"],
        "optimisers": ["numba_cpu/update.py"],
        "statistics": ["numba_cpu/statistics.py", "numba_cpu/gradients.py"],
    },
    "cython": {
        "operations": ["cython_cpu/steps.pxi"],
        "activations": ["cython_cpu/elementwise.pxi"],
        "losses": ["cython_cpu/loss.pxi"],
        "links": ["cython_cpu/loss.pxi"],
        "optimisers": ["cython_cpu/update.pxi"],
        "statistics": ["cython_cpu/measure.pxi", "cython_cpu/learn.pxi"],
    },
}


def test_tables_name_every_link():
    assert {getattr(opcodes, name) for name in TABLES["links"]} == set(opcodes.LINKS.values()) - {
        opcodes.IDENTITY
    }


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", FILES)
def test_no_file_forgets_an_entry(name, table):
    """Also where the engine cannot run; a comment is enough, as where the last entry is what
    remains.
    """
    paths = [Path(_kernels.__file__).parent / file for file in FILES[name][table]]
    if not all(path.exists() for path in paths):
        pytest.skip(
            f"{', '.join(FILES[name][table])} are not installed: the engine is here only as compiled"
        )
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    missing = [entry for entry in TABLES[table] if not re.search(rf"\b{entry}\b", text)]
    assert not missing, (
        f"{' and '.join(FILES[name][table])} of the engine {name!r} never name {', '.join(missing)}, of the {table}"
    )
