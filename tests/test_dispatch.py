"""Generated chains of ifs that choose a formula, or a loop, by its code."""

import pytest

from fastnn._kernels.dispatch import by_code, loop_by_code

chosen = by_code("x, y", {2: lambda x, y: x + y, 5: lambda x, y: x - y, 3: lambda x, y: x * y})


@pytest.mark.parametrize(("code", "expected"), [(2, 9), (5, 5), (3, 14), (0, 14), (-1, 14)])
def test_a_code_chooses_its_function(code, expected):
    """The last function stands for every other code."""
    assert chosen(code, 7, 2) == expected


def test_a_loop_runs_with_its_code_as_a_literal():
    calls = []
    run = loop_by_code("x", lambda *given: calls.append(given), {4: "True, ", 1: "2, False, "})
    for code in (1, 4, 0, 7):  # nothing runs for the last two
        assert run(code, "data") is None
    assert calls == [(1, 2, False, "data"), (4, True, "data")]


def test_an_exhaustive_loop_returns_what_it_computes():
    run = loop_by_code("x", lambda code, x: (code, x), {4: "", 1: "", 6: ""}, exhaustive=True)
    assert [run(code, "x") for code in (1, 4, 6, 0)] == [(1, "x"), (4, "x"), (6, "x"), (6, "x")]


def test_a_chain_that_is_compiled_folds():
    """With a constant code, nothing of the other formulas is left."""
    njit = pytest.importorskip("numba").njit
    formulas = {0: njit(lambda x: x * 3.0), 1: njit(lambda x: x / 7.0)}
    compiled = njit(by_code("x", formulas))

    @njit
    def run(x):
        return compiled(1, x)

    assert run(14.0) == 2.0
    assert compiled(0, 14.0) == 42.0
