"""Random networks and training for `test_fuzz`: what hypothesis draws."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from builders import LOSS_CASES, STEPPING
from hypothesis import assume
from hypothesis import strategies as st

import fastnn as fnn
from fastnn._kernels import opcodes
from fastnn._kernels.contract import Program
from fastnn._kernels.tables import ACTIVATIONS
from fastnn.nn.layers import Layer
from fastnn.nn.losses import as_loss
from fastnn.nn.lowering import lower
from fastnn.optim.optimizers import Optimizer

MOST_PARAMETERS = 500_000


@dataclass(frozen=True)
class Case:
    """A network and what is done with it: everything that a failing example needs to be shown."""

    layers: Sequence[Layer]
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
factors = st.sampled_from([1.0, 1.0, 0.3, 2.0])
two_factors = st.tuples(factors, factors)
rarely, always, never = st.sampled_from([False, False, True]), st.just(True), st.just(False)
epsilons = st.sampled_from([0.01, 1.0])


@st.composite
def activations(draw, name=None, parametric=rarely):
    name = name or draw(st.sampled_from(list(ACTIVATIONS)))
    return fnn.Activation(
        name,
        name != "linear" and draw(parametric),
        *draw(two_factors),
        **{constant: draw(st.sampled_from([0.1, 0.6])) for constant in ACTIVATIONS[name].constants},
    )


def dense(activation, sizes=sizes):
    constants = {
        "bias": st.booleans(),
        "l1": penalties,
        "l2": penalties,
        "max_norm": st.sampled_from([None, None, 0.8]),
        "scaling": st.sampled_from(["standard", "ntk"]),
        "lr_factor": factors,
        "decay_factor": factors,
        "bias_lr_factor": factors,
    }
    return st.builds(fnn.Dense, sizes, activation, **constants)


rates = st.sampled_from([0.1, 0.5])
dropout_schedules = st.sampled_from([fnn.FlatCosine(0.5, 3), fnn.Warmup(3, 0.4)])
one_layer = {
    "dense": dense(activations()),
    "batch_norm": st.builds(fnn.BatchNorm, momentum=st.sampled_from([0.1, 1.0]), epsilon=epsilons),
    "layer_norm": st.builds(fnn.LayerNorm, epsilons),
    "noise": st.builds(fnn.GaussianNoise, rates),
    "dropout": st.builds(fnn.Dropout, rates | dropout_schedules),
    "activation": activations(),
    "scale": st.builds(fnn.Scale, factors, factors),
}


@st.composite
def piecewise(draw):
    """An encoding of at most three columns, which any layer may follow or go before."""
    edges = st.lists(st.integers(-20, 20), min_size=2, max_size=12, unique=True).map(sorted)
    bins = draw(st.lists(edges.map(lambda e: [0.1 * each for each in e]), min_size=1, max_size=3))
    return fnn.PiecewiseLinear(bins, draw(st.integers(1, 20)), None, *draw(two_factors))


def periodic():
    """Waves of at most three columns, which any layer may follow or go before."""
    sizes = st.integers(1, 20)
    sigmas, kinds = st.sampled_from([0.05, 0.5]), st.sampled_from(["pbld", "plr"])
    features = st.integers(1, 3)
    return st.builds(
        fnn.Periodic, sizes, sigmas, sizes, kinds, st.booleans(), features, factors, factors
    )


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


class Graph(Layer):
    """Layers that read any value computed before them, which no `Network` has.

    Values have many readers, near and far, in any order.
    """

    def __init__(self, layers: Sequence[Layer], sources: Sequence[int]):
        self.layers, self.sources = layers, sources


def lower_graph(lowering, graph, x, width, name, following):
    """The lowering of a `Graph`.

    Values without a reader are added up at the end, so that every operation matters.
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
    **{
        name: st.tuples(one_layer[name])
        for name in ("dense", "batch_norm", "layer_norm", "noise", "scale")
    },
    # Behind a layer that makes columns enough.
    "piecewise": st.tuples(dense(activations(), st.integers(3, 40)), piecewise()),
    **dict.fromkeys(
        ("periodic", "feature_dense"),
        st.tuples(dense(activations(), st.integers(3, 40)), periodic()),
    ),
    "add": st.tuples(
        st.builds(fnn.Residual, st.lists(blocks, min_size=1, max_size=3), activations())
    ),
    "elementwise": st.tuples(
        *[activations(parametric=never).filter(lambda activation: activation.name != "linear")] * 2
    ),
    "parametric": st.tuples(
        activations(parametric=always).filter(lambda activation: activation.parametric)
    ),
}


@st.composite
def optimizers(draw, name=None):
    kind, given = STEPPING[name or draw(st.sampled_from(list(STEPPING)))]
    limit = st.sampled_from([None, None, 0.05, 1.0])
    ranges = {
        "lr": st.sampled_from([0.002, 0.05]),
        "momentum": st.just(0.0),
        "rho": st.sampled_from([0.5, 0.95]),
        "beta1": st.sampled_from([0.0, 0.9]),
        "beta2": st.sampled_from([0.5, 0.99]),
        "epsilon": st.sampled_from([0.01, 1.0]),
        "momentum_decay": st.sampled_from([0.0, 0.5]),
        "weight_decay": st.sampled_from([0.0, 0.1, fnn.FlatCosine(0.2, 4)]),
        "clip_value": limit,
        "clip_norm": limit,
    }
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


@st.composite
def embedded(draw):
    """Layers behind an embedding of up to three columns."""
    cardinalities = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    first = fnn.Embedding(cardinalities, draw(st.integers(1, 20)), "normal", *draw(two_factors))
    return [first, *draw(stacks())]


@st.composite
def ensembles(draw, heads=rarely):
    """Layers that end in an ensemble of networks."""
    own = st.one_of(dense(activations()), one_layer["dropout"], activations())
    layers = [*draw(st.lists(own, max_size=4)), draw(dense(activations()))]
    if draw(heads):
        layers.append(fnn.Heads(draw(st.integers(1, 40)), bias=draw(st.booleans())))
    members, scaling = draw(st.integers(1, 9)), draw(st.sampled_from(["all", "first"]))
    ensemble = fnn.BatchEnsemble(members, layers, scaling, "normal", None, *draw(two_factors))
    return [*draw(st.lists(blocks, max_size=2)), ensemble]


any_stack = stacks()
wide_stacks = st.tuples(
    dense(activations(), large),
    one_layer["batch_norm"] | one_layer["layer_norm"],
    dense(activations(), large),
)


@st.composite
def mini_batches(draw, rows=few):
    """Equal mini-batches and a last one that may be shorter, as in an epoch; then another chunk.

    The second chunk uses the same workspace with other sizes.
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


def program_of(case: Case, dtype) -> Program:
    loss = as_loss(LOSS_CASES[case.loss][0])
    if loss.levels:  # one for each output
        n = lower(case.layers, case.inputs, as_loss("mse"), dtype).n_outputs
        loss = fnn.Loss(loss.name, levels=np.linspace(0, 1, n + 2)[1:-1] ** 2)
    return lower(case.layers, case.inputs, loss, dtype)
