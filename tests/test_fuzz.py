"""Random networks, trained a few steps by every CPU engine, give the reference's results.

Differences must be rounding errors. Each entry of the tables of operations, activations, losses and
optimisers is in all examples of a test; hypothesis draws the rest. ``FASTNN_FUZZ=1000`` draws as
many examples for each, other ones every time.
"""

import os

import numpy as np
import pytest
from builders import COMPILED, LOSS_CASES, STEPPING
from fuzz_cases import (
    MAKES,
    Graph,
    activations,
    always,
    cases,
    dense,
    embedded,
    ensembles,
    graphs,
    large,
    lower_graph,
    mini_batches,
    stacks,
    wide_stacks,
)
from fuzzing import Judge
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fastnn._kernels import cpu_engine, opcodes
from fastnn._kernels.contract import aligned_zeros
from fastnn._kernels.tables import ACTIVATIONS
from fastnn.nn import lowering

EXAMPLES = int(os.environ.get("FASTNN_FUZZ", "0"))
fuzz = settings(
    max_examples=EXAMPLES or 12,
    derandomize=not EXAMPLES,
    print_blob=True,
    # each example sets its own number of threads
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def surroundings(use_threads, monkeypatch):
    """Any number of threads; graphs can be lowered; workspaces hold NaN until a kernel writes."""

    def nan_filled(n, dtype):
        array = aligned_zeros(n, dtype)
        array.fill(np.nan)
        return array

    monkeypatch.setitem(lowering._LOWERINGS, Graph, lower_graph)
    monkeypatch.setattr(cpu_engine, "aligned_zeros", nan_filled)


def check(case):
    judge = Judge(case)
    assume(judge.is_tame())
    wrong = {engine: found for engine in COMPILED if (found := judge.wrong(engine))}
    assert not wrong, "\n".join(
        f"{engine}: {name} {how}" for engine, found in wrong.items() for name, how in found.items()
    )
    return judge.program


@pytest.mark.parametrize("operation", opcodes.OPERATIONS)
def test_operations(operation):
    at_the_ends = {
        "embedding": embedded(),
        "member_scale": ensembles(),
        "heads": ensembles(heads=always),
    }
    layers = at_the_ends[operation] if operation in at_the_ends else stacks(MAKES[operation])

    @fuzz
    @given(case=cases(layers, inputs=st.integers(3, 70)))
    def check_operation(case):
        assert opcodes.OPERATIONS[operation] in check(case).ops["code"]

    check_operation()


@settings(fuzz, max_examples=4 * fuzz.max_examples)
@given(case=cases(stacks(st.tuples(graphs()))))
def test_graphs(case):
    check(case)


@fuzz
@given(case=cases(wide_stacks, large, mini_batches(st.integers(1, 150))))
def test_large_matrices(case):
    check(case)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation):
    @fuzz
    @given(case=cases(stacks(st.tuples(dense(activations(activation))))))
    def check_activation(case):
        check(case)

    check_activation()


@pytest.mark.parametrize("loss", LOSS_CASES)
def test_losses(loss):
    @fuzz
    @given(case=cases(loss=loss))
    def check_loss(case):
        check(case)

    check_loss()


@pytest.mark.parametrize("optimizer", STEPPING)
def test_optimizers(optimizer):
    @fuzz
    @given(case=cases(optimizer=optimizer))
    def check_optimizer(case):
        check(case)

    check_optimizer()
