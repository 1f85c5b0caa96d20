"""Random networks and training for `test_fuzz`: what is drawn, how an engine runs it, and how much
of a difference is rounding.

An engine may differ from the reference by what rounding explains and no more. How much that is
depends on the network, so it is measured: the reference runs once in float64, and again in the
network's dtype from features and parameters that are off in their last places. Where that moves a
result, by chaos or across the kink of an activation, as much is granted to the engine; a wrong one
is off by far more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from builders import LOSS_CASES, STEPPING, targets
from hypothesis import assume
from hypothesis import strategies as st

import fastnn as fnn
from fastnn._kernels import opcodes, threads
from fastnn._kernels.contract import Chunk, Engine, Program, Samples, State
from fastnn._kernels.reference_engine import ReferenceEngine
from fastnn.engines import make_engine
from fastnn.nn.activations import ACTIVATIONS
from fastnn.nn.losses import as_loss
from fastnn.nn.lowering import lower
from fastnn.optim.optimizers import Optimizer

LARGEST = 1e8  # of a case's results: beyond, it is about to overflow, one dtype before the other
MOST_PARAMETERS = 500_000


# --- what is drawn --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A network and what is done with it: everything that a failing example needs to be shown."""

    layers: Sequence[fnn.layers.Layer]
    inputs: int
    loss: str  # of LOSS_CASES
    optimizer: Optimizer
    dtype: str
    batches: tuple[tuple[int, ...], ...]  # sizes of the mini-batches, chunk by chunk
    predicted: int  # rows
    weighted: bool
    every: int
    step: int
    threads: int
    seed: int


# Around the lengths of vectors and tiles, where loops have remainders; and beyond those of the
# blocks that large matrices are cut into.
sizes = st.one_of(
    st.integers(1, 70), st.sampled_from([n + d for n in (4, 8, 16, 32, 48, 64) for d in (-1, 0, 1)])
)
few = st.integers(1, 65)
nothing = st.just(())
large = st.sampled_from([100, 128, 131, 256, 300, 512, 515, 1024, 2100])
penalties = st.sampled_from([0.0, 0.0, 0.02])
epsilons = st.sampled_from([0.01, 1.0])


@st.composite
def activations(draw, name=None):
    name = name or draw(st.sampled_from(list(ACTIVATIONS)))
    return fnn.Activation(
        name,
        **{constant: draw(st.sampled_from([0.1, 0.6])) for constant in ACTIVATIONS[name].constants},
    )


def dense(activation, sizes=sizes):
    constants = {
        "bias": st.booleans(),
        "l1": penalties,
        "l2": penalties,
        "max_norm": st.sampled_from([None, None, 0.8]),
    }
    return st.builds(fnn.Dense, sizes, activation, **constants)


rates = st.sampled_from([0.1, 0.5])
one_layer = {
    "dense": dense(activations()),
    "batch_norm": st.builds(fnn.BatchNorm, momentum=st.sampled_from([0.1, 1.0]), epsilon=epsilons),
    "layer_norm": st.builds(fnn.LayerNorm, epsilons),
    "noise": st.builds(fnn.GaussianNoise, rates),
    "dropout": st.builds(fnn.Dropout, rates),
    "activation": activations(),
}
blocks = st.recursive(
    st.one_of(*one_layer.values()),
    lambda inner: st.builds(
        fnn.Residual,
        st.lists(inner, min_size=1, max_size=3),
        activations(),
        st.sampled_from(["auto", True]),
    ),
    max_leaves=6,
)


class Graph(fnn.layers.Layer):
    """Layers that read any value made before them. No `Network` has such: values with many readers,
    near and far, in any order.
    """

    def __init__(self, layers: Sequence[fnn.layers.Layer], sources: Sequence[int]):
        self.layers, self.sources = layers, sources


def lower_graph(lowering, graph, x, width, name, following):
    """To be added to the lowerings of layers. What nobody has read is added up in the end: an
    operation is for something.
    """
    values, unread = [(x, width)], set()
    for i, (layer, source) in enumerate(zip(graph.layers, graph.sources, strict=True)):
        lowering.pinned.update(value for value, _ in values)
        read = values[source % len(values)]
        values.append(lowering.sequence([layer], *read, f"{name}{i}."))
        unread = (unread - {read}) | {values[-1]}
    (total, width), *others = unread
    for i, (value, n) in enumerate(others):
        skip, _ = lowering.dense(fnn.Dense(width, bias=False), value, n, f"{name}join {i}.", ())
        total = lowering.emit(opcodes.ADD, total, width, width, skip=skip)
    return total, width


@st.composite
def graphs(draw):
    layers = draw(st.lists(blocks, min_size=2, max_size=6))
    return Graph(
        layers, draw(st.lists(st.integers(0, 5), min_size=len(layers), max_size=len(layers)))
    )


# Layers that make each operation.
MAKES = {
    **{name: st.tuples(one_layer[name]) for name in ("dense", "batch_norm", "layer_norm", "noise")},
    "add": st.tuples(
        st.builds(fnn.Residual, st.lists(blocks, min_size=1, max_size=3), activations())
    ),
    "elementwise": st.tuples(
        *[activations().filter(lambda activation: activation.name != "linear")] * 2
    ),
}


@st.composite
def optimizers(draw, name=None):
    kind, given = STEPPING[name or draw(st.sampled_from(list(STEPPING)))]
    limit = st.sampled_from([None, None, 0.05, 1.0])
    ranges = {
        "lr": st.sampled_from([0.002, 0.05]), "momentum": st.just(0.0), "rho": st.sampled_from([0.5, 0.95]),
        "beta1": st.sampled_from([0.0, 0.9]), "beta2": st.sampled_from([0.5, 0.99]), "epsilon": st.sampled_from([0.01, 1.0]),
        "momentum_decay": st.sampled_from([0.0, 0.5]), "weight_decay": st.sampled_from([0.0, 0.1]), "clip_value": limit, "clip_norm": limit,
    }  # fmt: skip
    return kind(**{f.name: draw(ranges[f.name]) for f in fields(kind) if f.name in ranges} | given)


@st.composite
def stacks(draw, inside=nothing):
    """Layers with some in between that are drawn from a strategy."""
    layers = [
        *draw(st.lists(blocks, max_size=2)),
        *draw(inside),
        *draw(st.lists(blocks, max_size=2)),
    ]
    return layers if layers and draw(st.booleans()) else [*layers, draw(dense(activations()))]


any_stack = stacks()
wide_stacks = st.tuples(
    dense(activations(), large),
    one_layer["batch_norm"] | one_layer["layer_norm"],
    dense(activations(), large),
)


@st.composite
def mini_batches(draw, rows=few):
    """Equal ones and a last one that may be shorter, as in an epoch; then a chunk of others in the
    same workspace.
    """
    first, second = draw(rows), draw(rows)
    return (first,) * draw(st.integers(1, 3)) + (draw(st.integers(1, first)),), (second,) * draw(
        st.integers(1, 2)
    )


any_batches = mini_batches()


@st.composite
def cases(draw, layers=any_stack, inputs=sizes, batches=any_batches, loss=None, optimizer=None):
    """A case with what is named, whatever else it has."""
    case = Case(
        layers=draw(layers),
        inputs=draw(inputs),
        loss=loss or draw(st.sampled_from(list(LOSS_CASES))),
        optimizer=draw(optimizers(optimizer)),
        dtype=draw(st.sampled_from(["float64", "float32"])),
        batches=draw(batches),
        predicted=draw(st.one_of(st.integers(1, 70), st.sampled_from([96, 97, 193, 400]))),
        weighted=draw(st.booleans()),
        every=draw(st.integers(0, 3)),
        step=draw(st.sampled_from([0, 5, 2**32 - 2])),
        threads=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
    program = program_of(case, case.dtype)
    assume(0 < program.n_parameters < MOST_PARAMETERS)
    # whose gradient would be nothing but rounding errors
    assume(program.n_outputs > 1 or program.loss["link"] != opcodes.SOFTMAX)
    return case


# --- the numbers of a case ------------------------------------------------------------------------


@dataclass(frozen=True)
class Numbers:
    """What an engine is given beside the case itself: all drawn from its seed, rounded to its
    dtype.
    """

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

    def shaken(self, dtype, rng: np.random.Generator) -> "Numbers":
        """Features and parameters that are off in their last places."""
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


def program_of(case: Case, dtype) -> Program:
    return lower(case.layers, case.inputs, as_loss(LOSS_CASES[case.loss][0]), dtype)


def numbers(case: Case, program: Program) -> Numbers:
    """Nothing is 0, and values neither grow nor vanish from layer to layer."""
    rng = np.random.default_rng(case.seed)
    theta, buffers = np.zeros(program.n_parameters), np.zeros(program.n_buffers)
    for array in program.parameters:
        noise, grows_with = rng.normal(size=array.shape), {"weight": array.shape[0], "scale": 25}
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
    key = "labels" if y.ndim == 1 else "values"
    samples = Samples(rng.normal(size=(n, case.inputs)), weights=weights, **{key: y})
    return Numbers(theta, buffers, samples, rng.normal(size=(case.predicted, case.inputs))).as_type(
        case.dtype
    )


# --- running --------------------------------------------------------------------------------------


STATISTICS = "DELTA", "GRADIENT", "WEIGHT", "UPDATE", "VALUES", "SQUARES", "DEAD", "SATURATED"


class Result(NamedTuple):
    value: np.ndarray
    # length of what its rounding errors are relative to: itself, or where terms may cancel what is
    # like it
    scale: float


def run(
    make: Callable[[Program], Engine], case: Case, program: Program, given: Numbers
) -> dict[str, Result]:
    """All that an engine makes of the case, by name, in float64."""
    threads.set_num_threads(case.threads)
    rng, n_slots = np.random.default_rng(case.seed), case.optimizer.n_slots
    state = State(
        given.theta.copy(),
        given.buffers.copy(),
        case.seed,
        program.new_vectors(n_slots),
        np.ones(1),
        case.step,
    )
    engine, found = make(program), {}

    def keep(name, value, scale=None):
        value = np.array(value, np.float64).ravel()
        if value.size:
            found[name] = Result(value, _length(value) if scale is None else scale)

    def keep_arrays(name, vector, arrays, before=0.0):
        scale = _length(vector) + _length(before)
        for array in arrays:
            keep(f"{name} {array.name}", array.view(vector), scale)

    def keep_log(name, log, rows):
        # logarithms of numbers close to 1
        keep(f"{name}, losses", log.losses, _length(1 + log.losses))
        for part in ("weights", "hits", "finite"):
            keep(f"{name}, {part}", getattr(log, part))
        of = {part: log.statistics[..., getattr(opcodes, part)].T for part in STATISTICS}
        scales = of | {  # differences are rounded as what they are taken of
            "UPDATE": np.sqrt(of["WEIGHT"] * of["UPDATE"]) + of["UPDATE"],  # Σ (w' − w)²
            # Σ y and Σ y², about one of them
            "VALUES": rows * np.sqrt(program.ops["n_out"].max() * of["SQUARES"]),
            "SQUARES": rows * program.ops["n_out"].max() * of["SQUARES"],
        }
        for i in range(len(program.ops)):
            for part in STATISTICS:
                keep(f"{name}, operation {i}, {part}", of[part][i], _length(scales[part]))

    def keep_outputs(when):
        spoilt = given.X.copy()
        spoilt[rng.integers(len(spoilt)), rng.integers(case.inputs)] = rng.choice(
            [np.nan, np.inf, -np.inf]
        )
        for what, X in (("outputs", given.X), ("outputs of a row that is not finite", spoilt)):
            for linked in (False, True):
                outputs, finite = engine.forward(state, X, linked)
                (
                    keep(f"{what} {when}, {linked=}", outputs),
                    keep(f"finite {what} {when}, {linked=}", finite),
                )

    keep_outputs("before")
    for training in (False, True):
        log, gradient = engine.gradients(state, given.samples, training, measure=case.every > 0)
        keep_log(f"gradient, {training=}", log, len(given.samples))
        keep_arrays(f"gradient, {training=}", gradient, program.parameters)
    np.testing.assert_array_equal(state.theta, given.theta)
    np.testing.assert_array_equal(state.buffers, given.buffers)
    for k, sizes in enumerate(case.batches):
        order, bounds = rng.integers(len(given.samples), size=sum(sizes)), np.cumsum([0, *sizes])
        learning_rates = case.optimizer.rates(0, len(sizes)) * rng.uniform(0.5, 1, len(sizes))
        chunk = Chunk(order, bounds, learning_rates, case.optimizer.record(), sizes[0], case.every)
        keep_log(f"chunk {k}", engine.train_steps(state, given.samples, chunk), sizes[0])
        keep_arrays(f"chunk {k}", state.theta, program.parameters, given.theta)
        keep_arrays(f"chunk {k}", state.buffers, program.buffers, given.buffers)
        for i in range(n_slots):
            keep_arrays(f"chunk {k}, slot {i}", state.slots[i], program.parameters)
    keep_outputs("after")
    keep("steps", [state.step - case.step, state.optimizer_step]), keep("product", state.mu_product)
    keep("padding", [np.delete(vector, _used(program)) for vector in (state.theta, *state.slots)])
    return found


def _length(array) -> float:
    return float(np.linalg.norm(np.nan_to_num(np.asarray(array, np.float64).ravel())))


def _used(program):
    """Elements of θ that belong to an array."""
    return np.concatenate(
        [np.arange(a.offset, a.offset + a.size) for a in program.parameters] or [np.zeros(0, int)]
    )


# --- comparing ------------------------------------------------------------------------------------

ROUNDINGS, SHAKES, GRANTED = 64, 16, 8


class Shaken(ReferenceEngine):
    """The reference, but what operations put out is off in its last places where losses, statistics
    and the way back take it up.
    """

    def __init__(self, rng: np.random.Generator, program: Program):
        super().__init__(program)
        self._rng = rng

    def _forward(self, state, X, training, learning):
        values = super()._forward(state, X, training, learning)
        return {
            at: (off(y, y.dtype, self._rng).astype(y.dtype), *rest)
            for at, (y, *rest) in values.items()
        }


class Judge:
    """What the reference makes of a case, and what engines may differ from it by."""

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
        self._allowed = ROUNDINGS * np.finfo(case.dtype).eps * np.array(scales)
        self._shakes = 0

    def is_tame(self) -> bool:
        """Whether nothing is about to overflow."""
        return bool((self._lengths(self._flat) < LARGEST).all())

    def wrong(self, engine: str) -> dict[str, str]:
        """Results of the engine that no rounding explains → by how much."""
        distances = self._distances(partial(make_engine, engine), self.given)
        while (far := np.flatnonzero(~(distances <= self._allowed))).size and self._shakes < SHAKES:
            self._shake()
        names = list(self.expected)
        return {names[i]: f"off by {distances[i]:.3g}, allowed {self._allowed[i]:.3g}" for i in far}

    def _shake(self) -> None:
        """Find out a bit more of what rounding can do."""
        rng = np.random.default_rng(self._shakes)
        shaken = self._distances(partial(Shaken, rng), self.given.shaken(self.case.dtype, rng))
        self._allowed = np.maximum(self._allowed, GRANTED * shaken)
        self._shakes += 1

    def _distances(self, make: Callable[[Program], Engine], given: Numbers) -> np.ndarray:
        """How far each result is from what is expected: Euclidean, and infinite where only one of
        the two is a number.
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
