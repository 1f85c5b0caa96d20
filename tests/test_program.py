"""Lowering: the operations of a stack of layers, and the offsets in the flat buffers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fnn
from fastnn._kernels import opcodes
from fastnn._kernels.contract import aligned_zeros
from fastnn.nn.activations import ACTIVATIONS
from fastnn.nn.losses import Loss
from fastnn.nn.lowering import lower

NAMES = {code: name for name, code in opcodes.OPERATIONS.items()}


def lowered(*layers, inputs=4, loss="mse"):
    return lower(layers, inputs, Loss(loss), np.dtype("float32"))


def operations(program):
    """Readable: operation, activation where there is one, "dropout" where there is some."""
    activations = {spec.code: name for name, spec in ACTIVATIONS.items()}
    shown = []
    for op in program.ops:
        parts = [NAMES[op["code"]]]
        parts += [activations[op["activation"]]] if op["activation"] != opcodes.LINEAR else []
        parts += ["dropout"] if op["rate"] > 0 else []
        shown.append(" ".join(parts))
    return shown


FUSED = {
    "activation": ([fnn.Dense(3), fnn.Activation("tanh")], ["dense tanh"]),
    "linear": ([fnn.Dense(3, "relu"), fnn.Activation("linear")], ["dense relu"]),
    "dropout": ([fnn.Dense(3), fnn.Dropout(0.5)], ["dense dropout"]),
    "both": ([fnn.Dense(3, "relu"), fnn.Dropout(0.5)], ["dense relu dropout"]),
    "norms": (
        [
            fnn.BatchNorm(),
            fnn.Activation("relu"),
            fnn.LayerNorm(),
            fnn.Activation("tanh"),
            fnn.Dropout(0.1),
            fnn.Dense(2),
        ],
        ["batch_norm relu", "layer_norm tanh dropout", "dense"],
    ),
    "noise": (
        [fnn.GaussianNoise(0.1), fnn.Activation("relu"), fnn.Dense(2)],
        ["noise relu", "dense"],
    ),
    "nothing to do": ([fnn.Dropout(0.0), fnn.GaussianNoise(0.0), fnn.Dense(2)], ["dense"]),
    "residual": (
        [fnn.Residual([fnn.Dense(4)], "relu"), fnn.Dropout(0.1), fnn.Dense(2)],
        ["dense", "add relu dropout", "dense"],
    ),
    # an epilogue is f first, then dropout: a second f, or an f after dropout, does not fit
    "two activations": (
        [fnn.Dense(3, "relu"), fnn.Activation("tanh")],
        ["dense relu", "elementwise tanh"],
    ),
    "dropout first": (
        [fnn.Dense(3), fnn.Dropout(0.5), fnn.Activation("tanh")],
        ["dense dropout", "elementwise tanh"],
    ),
    "two dropouts": (
        [fnn.Dense(3), fnn.Dropout(0.5), fnn.Dropout(0.2)],
        ["dense dropout", "elementwise dropout"],
    ),
    # what a residual block adds back must stay as it is
    "inputs": (
        [fnn.Activation("tanh"), fnn.Dropout(0.5), fnn.Dense(2)],
        ["elementwise tanh dropout", "dense"],
    ),
    "pinned": (
        [fnn.Dense(3), fnn.Residual([fnn.Activation("tanh")])],
        ["dense", "elementwise tanh", "add"],
    ),
    "pinned, dropout": (
        [fnn.Dense(3), fnn.Residual([fnn.Dropout(0.5), fnn.Dense(3)])],
        ["dense", "elementwise dropout", "dense", "add"],
    ),
    "pinned, nested": (
        [
            fnn.Dense(3),
            fnn.Residual([fnn.Residual([fnn.Activation("tanh"), fnn.Activation("relu")])]),
        ],
        ["dense", "elementwise tanh", "elementwise relu", "add", "add"],
    ),
    "projection": (
        [fnn.Dense(3), fnn.Residual([fnn.Dense(2, "relu")], "tanh")],
        ["dense", "dense relu", "dense", "add tanh"],
    ),
    "after the block": (
        [fnn.Residual([fnn.Dense(4, "relu")]), fnn.Activation("tanh")],
        ["dense relu", "add tanh"],
    ),
}


@pytest.mark.parametrize(("layers", "expected"), FUSED.values(), ids=FUSED)
def test_activation_and_dropout_cost_no_operation_where_they_can_join_one(layers, expected):
    assert operations(lowered(*layers)) == expected


def test_constants_reach_the_operations():
    program = lowered(
        fnn.Dense(3, fnn.Activation("elu", alpha=0.5), l1=0.1, l2=0.2, max_norm=3, bias=False),
        fnn.BatchNorm(momentum=0.2, epsilon=0.3),
        fnn.LayerNorm(epsilon=0.4),
        fnn.GaussianNoise(0.5),
        fnn.Dropout(0.6),
    )
    dense, batch, layer, noise = program.ops
    assert (dense["alpha"], dense["l1"], dense["l2"], dense["max_norm"], dense["bias"]) == (
        0.5,
        0.1,
        0.2,
        3,
        -1,
    )
    assert (batch["momentum"], batch["epsilon"], layer["epsilon"], noise["std"], noise["rate"]) == (
        0.2,
        0.3,
        0.4,
        0.5,
        0.6,
    )
    smoothed = lower(
        [fnn.Dense(2)], 4, Loss("softmax_cross_entropy", label_smoothing=0.1), np.float32
    )
    assert (smoothed.loss["code"][0], smoothed.loss["constant"][0]) == (
        opcodes.SOFTMAX_CROSS_ENTROPY,
        0.1,
    )


SIGMOID_ENDS = {
    "dense": [fnn.Dense(2, "sigmoid")],
    "layer": [fnn.Dense(2), fnn.Activation("sigmoid")],
    "residual": [fnn.Residual([fnn.Dense(2)], "sigmoid")],
}


@pytest.mark.parametrize("end", SIGMOID_ENDS.values(), ids=SIGMOID_ENDS)
@pytest.mark.parametrize("loss", ["binary_cross_entropy", "quadratic", "softmax_cross_entropy"])
def test_only_binary_cross_entropy_takes_the_sigmoid_off_the_output(loss, end):
    program = lowered(fnn.Dense(2, "sigmoid"), *end, loss=loss)
    *hidden, last = operations(program)
    assert "dense sigmoid" in hidden
    assert ("sigmoid" in last) == (loss != "binary_cross_entropy")


def test_other_activations_of_the_output_stay():
    assert operations(lowered(fnn.Dense(2, "tanh"), loss="binary_cross_entropy")) == ["dense tanh"]


INITS = {
    "own": ([fnn.Dense(3, "relu")], "he_normal"),
    "none": ([fnn.Dense(3)], "glorot_uniform"),
    "next layer": ([fnn.Dense(3), fnn.Activation("relu")], "he_normal"),
    "past norms and noise": (
        [
            fnn.Dense(3),
            fnn.BatchNorm(),
            fnn.LayerNorm(),
            fnn.Dropout(0.1),
            fnn.GaussianNoise(0.1),
            fnn.Activation("selu"),
        ],
        "lecun_normal",
    ),
    "not past another product": (
        [fnn.Dense(3), fnn.Dense(3), fnn.Activation("relu")],
        ACTIVATIONS["linear"].init,
    ),
    "not past its own": ([fnn.Dense(3, "tanh"), fnn.Activation("relu")], ACTIVATIONS["tanh"].init),
    "first of two": (
        [fnn.Dense(3), fnn.Activation("tanh"), fnn.Activation("relu")],
        ACTIVATIONS["tanh"].init,
    ),
    "named": ([fnn.Dense(3, "relu", init="orthogonal")], "orthogonal"),
}


@pytest.mark.parametrize(("layers", "expected"), INITS.values(), ids=INITS)
def test_auto_initialiser_follows_the_activation(layers, expected):
    assert lowered(*layers).parameters[0].init.name == expected
    assert lowered(fnn.Residual(layers)).parameters[0].init.name == expected


@pytest.mark.parametrize("kind", ["glorot", "he", "lecun"])
def test_auto_covers_the_kinds_of_the_contract(kind):
    families = {
        "he": {"relu", "leaky_relu", "elu", "gelu", "silu", "mish", "softplus"},
        "lecun": {"selu"},
        "glorot": {"linear", "sigmoid", "tanh", "softsign", "hard_sigmoid", "hard_tanh"},
    }
    assert {name for name, spec in ACTIVATIONS.items() if spec.init.startswith(kind)} == families[
        kind
    ]


def test_gradients_are_planned_only_where_something_learns_before():
    first, second, add, last = lowered(
        fnn.Dense(4), fnn.Residual([fnn.Dense(4, "gelu")]), fnn.Dense(2)
    ).ops
    assert first["x_grad"] == opcodes.GRAD_NONE
    assert (add["skip_grad"], add["x_grad"], last["x_grad"]) == (opcodes.GRAD_WRITE,) * 3
    assert second["x_grad"] == opcodes.GRAD_ADD  # the skip connection has written before
    assert (second["aux"] >= 0, first["aux"], last["aux"]) == (True, -1, -1)


# --- layout ---------------------------------------------------------------------------------------

activations = st.sampled_from(list(ACTIVATIONS))
units = st.integers(1, 40)
simple = st.one_of(
    st.builds(fnn.Dense, units, activations, bias=st.booleans()),
    st.builds(fnn.Activation, activations),
    st.builds(fnn.Dropout, st.sampled_from([0.0, 0.3])),
    st.builds(fnn.GaussianNoise, st.sampled_from([0.0, 0.3])),
    st.builds(fnn.BatchNorm),
    st.builds(fnn.LayerNorm),
)
stacks = st.lists(
    st.recursive(
        simple,
        lambda inner: st.builds(fnn.Residual, st.lists(inner, min_size=1, max_size=3), activations),
        max_leaves=8,
    ),
    min_size=1,
    max_size=6,
)


def assert_disjoint(spans, size):
    """Spans (start, length) lie inside [0, size) and share nothing."""
    end = 0
    for start, length in sorted(spans):
        assert start >= end
        end = start + length
    assert end <= size


@settings(max_examples=150, deadline=None)
@given(stacks, units)
def test_nothing_overlaps(layers, inputs):
    program = lowered(*layers, inputs=inputs)
    assert_disjoint([(a.offset, a.size) for a in program.parameters], program.n_parameters)
    assert_disjoint([(a.offset, a.size) for a in program.buffers], program.n_buffers)
    # on a cache line in float32, and so in float64
    assert all(a.offset * 4 % 64 == 0 for a in program.parameters)
    columns, scratch = [(opcodes.INPUT, inputs)], []
    for op in program.ops:
        columns.append((op["y"], op["n_out"]))
        columns += [(op["aux"], op["n_out"])] if op["aux"] >= 0 else []
        columns += [(op["row_stats"], 2)] if op["row_stats"] >= 0 else []
        scratch += (
            [(op["column_stats"], opcodes.COLUMN_STATS * op["n_out"])]
            if op["column_stats"] >= 0
            else []
        )
    assert_disjoint(columns, program.n_columns)
    assert_disjoint(scratch, program.n_scratch)
    assert len({a.name for a in program.parameters + program.buffers}) == len(
        program.parameters + program.buffers
    )


@settings(max_examples=150, deadline=None)
@given(stacks, units)
def test_operations_read_only_what_is_there(layers, inputs):
    """Every value is made before it is used, once, with the width that its reader expects."""
    program = lowered(*layers, inputs=inputs)
    widths = {opcodes.INPUT: inputs}
    sizes = {a.offset: a.size for a in program.parameters}
    for k, op in enumerate(program.ops):
        assert widths[op["x"]] == op["n_in"]
        if op["code"] == opcodes.ADD:
            assert widths[op["skip"]] == op["n_out"] == op["n_in"]
        if op["code"] == opcodes.DENSE:
            assert sizes[op["weight"]] == op["n_in"] * op["n_out"]
        assert op["y"] not in widths
        assert op["stream"] == k
        widths[op["y"]] = op["n_out"]
    assert widths[program.output] == program.n_outputs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_vectors_begin_on_a_cache_line(dtype):
    for n in (1, 17, 1000, 300_000):  # the last one in huge pages
        vector = aligned_zeros(n, np.dtype(dtype))
        assert (vector.shape, vector.dtype, vector.ctypes.data % 64, vector.any()) == (
            (n,),
            dtype,
            0,
            False,
        )


def test_networks_parameters_lie_on_cache_lines():
    net = fnn.Network([fnn.Dense(3), fnn.LayerNorm(), fnn.Dense(5)], 7, "mse", backend="numpy")
    assert all(array.ctypes.data % 64 == 0 for array in net.parameters.values())
