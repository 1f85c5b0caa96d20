"""How `test_fuzz` runs a case of `fuzz_cases`, and what difference it takes for rounding.

An engine may differ from the reference only by rounding errors. Their size depends on the network,
so it is measured. The reference runs once in float64, and again in the network's dtype from
features and parameters perturbed in their last places. If that changes a result, by chaos or across
the kink of an activation, the engine may differ by as much. A wrong engine differs by far more.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from builders import LOSS_CASES, targets
from fuzz_cases import Case, program_of

from fastnn._kernels import opcodes, threads
from fastnn._kernels.contract import Chunk, Engine, Program, Samples, State
from fastnn._kernels.reference_engine import ReferenceEngine
from fastnn.engines import make_engine

LARGEST = 1e8  # of a case's results: beyond, it is about to overflow, one dtype before the other


# --- the numbers of a case ------------------------------------------------------------------------


@dataclass(frozen=True)
class Numbers:
    """What an engine is given beside the case: drawn from its seed, rounded to its dtype."""

    theta: np.ndarray
    buffers: np.ndarray
    samples: Samples
    X: np.ndarray  # to be predicted

    def as_type(self, dtype) -> "Numbers":
        of = self.samples
        samples = replace(of, **{name: getattr(of, name).astype(dtype) for name in _floats(of)})
        return Numbers(
            self.theta.astype(dtype), self.buffers.astype(dtype), samples, self.X.astype(dtype)
        )

    def perturbed(self, dtype, rng: np.random.Generator) -> "Numbers":
        """Features and parameters perturbed in their last places."""
        samples = replace(self.samples, X=off(self.samples.X, dtype, rng))
        return Numbers(
            off(self.theta, dtype, rng),
            off(self.buffers, dtype, rng),
            samples,
            off(self.X, dtype, rng),
        ).as_type(dtype)


def off(array, dtype, rng):
    """By up to four units of the last place of ``dtype``."""
    return array * (1 + 4 * np.finfo(dtype).eps * rng.uniform(-1, 1, array.shape))


def _floats(samples):
    return [name for name in ("X", "values", "weights") if getattr(samples, name) is not None]


def numbers(case: Case, program: Program) -> Numbers:
    """Nothing is 0, and values neither grow nor vanish from layer to layer."""
    rng = np.random.default_rng(case.seed)
    theta, buffers = np.zeros(program.n_parameters), np.zeros(program.n_buffers)
    for array in program.parameters:
        noise, grows_with = (
            rng.normal(size=array.shape),
            {"weight": array.shape[-2:][0], "scale": 25},
        )
        array.view(theta)[...] = noise / grows_with.get(array.kind, 4) ** 0.5 + (
            array.kind == "scale"
        )
    for array in program.buffers:
        array.view(buffers)[...] = rng.uniform(0.5, 1.5, array.shape) * (
            1 if array.kind == "variance" else rng.choice([-1, 1], array.shape)
        )
    n = max(map(max, case.batches)) + 3
    y = targets(LOSS_CASES[case.loss][1], n, program.n_outputs, case.seed)
    weights = rng.integers(0, 4, n).astype(float) if case.weighted else None
    if y.ndim == 2:  # also of one value for all outputs
        y = np.ascontiguousarray(np.broadcast_to(y, (n, program.n_outputs)))
    key = "labels" if y.ndim == 1 else "values"
    samples = Samples(rng.normal(size=(n, case.inputs)), weights=weights, **{key: y})
    return Numbers(theta, buffers, samples, rng.normal(size=(case.predicted, case.inputs))).as_type(
        case.dtype
    )


# --- running --------------------------------------------------------------------------------------


STATISTICS = "DELTA", "GRADIENT", "WEIGHT", "UPDATE", "VALUES", "SQUARES", "DEAD", "SATURATED"


class Result(NamedTuple):
    """A result, and the length of what its rounding errors are relative to.

    That is the result itself or, where terms may cancel, what the terms are like.
    """

    value: np.ndarray
    scale: float


class Results:
    """Results by name, in float64."""

    def __init__(self, program: Program):
        self.program = program
        self.found: dict[str, Result] = {}

    def keep(self, name, value, scale=None):
        value = np.array(value, np.float64).ravel()
        if value.size:
            self.found[name] = Result(value, _length(value) if scale is None else scale)

    def keep_arrays(self, name, vector, arrays, before=0.0):
        scale = _length(vector) + _length(before)
        for array in arrays:
            self.keep(f"{name} {array.name}", array.view(vector), scale)

    def keep_losses(self, name, losses):
        """Losses are logarithms of numbers close to 1."""
        self.keep(name, losses, _length(1 + np.asarray(losses)))

    def keep_log(self, name, log, rows):
        self.keep_losses(f"{name}, losses", log.losses)
        for part in ("weights", "correct_weight", "finite"):
            self.keep(f"{name}, {part}", getattr(log, part))
        of = {part: log.statistics[..., getattr(opcodes, part)].T for part in STATISTICS}
        units = self.program.ops["n_out"].max()
        scales = of | {  # rounding errors of differences are relative to the operands
            "UPDATE": np.sqrt(of["WEIGHT"] * of["UPDATE"]) + of["UPDATE"],  # Σ (w' − w)²
            "VALUES": rows * np.sqrt(units * of["SQUARES"]),  # Σ y and Σ y², about one of them
            "SQUARES": rows * units * of["SQUARES"],
        }
        for i in range(len(self.program.ops)):
            for part in STATISTICS:
                self.keep(f"{name}, operation {i}, {part}", of[part][i], _length(scales[part]))

    def keep_evaluation(self, name, evaluation):
        self.keep_losses(f"{name}, loss", evaluation.loss)
        for part in ("outputs", "weight", "correct_weight"):
            self.keep(f"{name}, {part}", getattr(evaluation, part))


def run(
    make: Callable[[Program], Engine], case: Case, program: Program, given: Numbers
) -> dict[str, Result]:
    """All results of an engine in a case."""
    threads.set_num_threads(case.threads)
    rng, n_slots = np.random.default_rng(case.seed), case.optimizer.n_slots
    slots = program.new_vectors(n_slots)
    theta, buffers = given.theta.copy(), given.buffers.copy()
    state = State(theta, buffers, case.seed, slots, np.ones(1), case.step)
    engine, results = make(program), Results(program)
    _predict(engine, state, case, given, rng, results, "before")
    for training in (False, True):
        log, gradient = engine.gradients(state, given.samples, training, measure=case.every > 0)
        results.keep_log(f"gradient, {training=}", log, len(given.samples))
        results.keep_arrays(f"gradient, {training=}", gradient, program.parameters)
    np.testing.assert_array_equal(state.theta, given.theta)
    np.testing.assert_array_equal(state.buffers, given.buffers)
    for k, sizes in enumerate(case.batches):
        order, bounds = rng.integers(len(given.samples), size=sum(sizes)), np.cumsum([0, *sizes])
        optimizer, steps = case.optimizer, (state.optimizer_step, len(sizes))
        learning_rates = optimizer.rates(0, len(sizes)) * rng.uniform(0.5, 1, len(sizes))
        decays = optimizer.decays(*steps)
        record = optimizer.record()
        chunk = Chunk(order, bounds, learning_rates, record, sizes[0], case.every, decays)
        results.keep_log(f"chunk {k}", engine.train_steps(state, given.samples, chunk), sizes[0])
        results.keep_arrays(f"chunk {k}", state.theta, program.parameters, given.theta)
        results.keep_arrays(f"chunk {k}", state.buffers, program.buffers, given.buffers)
        for i in range(n_slots):
            results.keep_arrays(f"chunk {k}, slot {i}", state.slots[i], program.parameters)
    _predict(engine, state, case, given, rng, results, "after")
    results.keep("steps", [state.step - case.step, state.optimizer_step])
    results.keep("mu_product", state.mu_product)
    vectors = (state.theta, *state.slots)
    results.keep("padding", [np.delete(vector, _used(program)) for vector in vectors])
    return results.found


def _predict(engine, state, case, given, rng, results, when):
    """Predictions, also of a row that is not finite, and an evaluation."""
    nonfinite = given.X.copy()
    row, column = rng.integers(len(nonfinite)), rng.integers(case.inputs)
    nonfinite[row, column] = rng.choice([np.nan, np.inf, -np.inf])
    for what, X in (("outputs", given.X), ("outputs of a row that is not finite", nonfinite)):
        for linked in (False, True):
            outputs, finite = engine.forward(state, X, linked)
            results.keep(f"{what} {when}, {linked=}", outputs)
            results.keep(f"finite {what} {when}, {linked=}", finite)
    results.keep_evaluation(f"evaluation {when}", engine.evaluate(state, given.samples))


def _length(array) -> float:
    return float(np.linalg.norm(np.nan_to_num(np.asarray(array, np.float64).ravel())))


def _used(program):
    """Elements of θ that belong to an array."""
    return np.concatenate(
        [np.arange(a.offset, a.offset + a.size) for a in program.parameters] or [np.zeros(0, int)]
    )


# --- comparing ------------------------------------------------------------------------------------

ROUNDINGS, PERTURBATIONS, ALLOWANCE = 64, 16, 8


class Perturbed(ReferenceEngine):
    """The reference with outputs of operations perturbed in their last places.

    Losses, statistics and the backward pass read the perturbed values. So is f(x) in the f(x) − x
    that α's gradient is made of: it may cancel.
    """

    def __init__(self, rng: np.random.Generator, program: Program):
        super().__init__(program)
        self._rng = rng

    def _forward(self, state, X, training, learning):
        values = super()._forward(state, X, training, learning)
        for op in self._ops:
            if op["code"] == opcodes.PARAMETRIC:
                (y, z, mask, change), x = values[op["y"]], values[op["x"]][0]
                change = (off(x + change, x.dtype, self._rng) - x).astype(x.dtype)
                values[op["y"]] = y, z, mask, change
        return {
            at: (off(y, y.dtype, self._rng).astype(y.dtype), *rest)
            for at, (y, *rest) in values.items()
        }


class Judge:
    """The reference's results of a case, and how far engines may differ from them."""

    @np.errstate(over="ignore", invalid="ignore")  # a case that is not tame
    def __init__(self, case: Case):
        self.case, self.program, exact = (
            case,
            program_of(case, np.dtype(case.dtype)),
            program_of(case, np.dtype("float64")),
        )
        self.given = numbers(case, self.program)
        self.expected = run(ReferenceEngine, case, exact, self.given.as_type("float64"))
        values, scales = zip(*self.expected.values(), strict=True)
        self._flat, self._starts = np.concatenate(values), np.cumsum([0, *map(len, values[:-1])])
        allowed = ROUNDINGS * np.finfo(case.dtype).eps
        if case.optimizer.clip_norm is not None:
            # The global norm is a sum in float64. Rounding errors of equal terms, as those of an L1
            # penalty alone, do not cancel.
            allowed += self.program.n_parameters / 32 * np.finfo(np.float64).eps
        self._allowed = allowed * np.array(scales)
        self._perturbations = 0

    def is_tame(self) -> bool:
        """Whether nothing is about to overflow."""
        return bool((self._lengths(self._flat) < LARGEST).all())

    def wrong(self, engine: str) -> dict[str, str]:
        """Results of the engine that no rounding explains → by how much."""
        distances = self._distances(partial(make_engine, engine), self.given)
        while (
            far := np.flatnonzero(~(distances <= self._allowed))
        ).size and self._perturbations < PERTURBATIONS:
            self._perturb()
        names = list(self.expected)
        return {names[i]: f"off by {distances[i]:.3g}, allowed {self._allowed[i]:.3g}" for i in far}

    def _perturb(self) -> None:
        """Measure once more what rounding can change."""
        rng = np.random.default_rng(self._perturbations)
        perturbed = self._distances(
            partial(Perturbed, rng), self.given.perturbed(self.case.dtype, rng)
        )
        self._allowed = np.maximum(self._allowed, ALLOWANCE * perturbed)
        self._perturbations += 1

    def _distances(self, make: Callable[[Program], Engine], given: Numbers) -> np.ndarray:
        """Euclidean distance of each result from the expected one.

        It is infinite where only one of the two is a number.
        """
        found = run(make, self.case, self.program, given)
        assert {name: result.value.shape for name, result in found.items()} == {
            name: r.value.shape for name, r in self.expected.items()
        }
        found = np.concatenate([result.value for result in found.values()])
        off = np.where(
            np.isnan(found) == np.isnan(self._flat),
            np.nan_to_num(found - self._flat, nan=0.0, posinf=np.inf),
            np.inf,
        )
        return self._lengths(off)

    def _lengths(self, flat: np.ndarray) -> np.ndarray:
        """Of each result."""
        return np.sqrt(
            np.add.reduceat(np.nan_to_num(flat, nan=0.0, posinf=np.inf) ** 2, self._starts)
        )
