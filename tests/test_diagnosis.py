"""Diagnosis: deliberately broken networks are found out and cured, healthy ones are left alone."""

import pickle

import numpy as np
import pytest
from diagnosis_cases import digit_samples, mlp

import fastnn as fnn
from fastnn.diagnostics.faults import BRINGS_ABOUT, FAULTS

SGD, Adam = fnn.SGD, fnn.Adam
EPOCHS = 6


@pytest.fixture(scope="module")
def digits():
    return digit_samples()


def normal(std):
    return fnn.Initializer("normal", std=std)


def biased(widths, activation, bias, init="auto"):
    layers = [fnn.Dense(n, activation, init=init, bias_init=np.full(n, bias)) for n in widths]
    return fnn.Network([*layers, fnn.Dense(10)], 784, "softmax_cross_entropy")


def constant():
    return fnn.Network(
        [fnn.Dense(64, "tanh", init=np.full((784, 64), 0.01)), fnn.Dense(10, init="zeros")],
        784,
        "softmax_cross_entropy",
    )


NEGATIVE = -0.05 * np.abs(np.random.default_rng(0).normal(size=(784, 64)))

# Fault → what is wrong → (network, optimiser), with the inputs' scale where that is what is wrong.
BROKEN = {
    "vanishing gradient": {
        "six sigmoid layers": (lambda: mlp([64] * 6, "sigmoid"), SGD(0.1)),
        "the book's, four hidden layers": (lambda: mlp([30] * 4, "sigmoid", "nielsen"), SGD(0.1)),
        "hard sigmoid": (lambda: mlp([50] * 4, "hard_sigmoid"), SGD(0.1)),
        "relu of small weights": (lambda: mlp([100] * 5, "relu", "normal"), SGD(0.1)),
        "tanh of small weights": (lambda: mlp([64] * 5, "tanh", normal(0.02)), SGD(0.1)),
    },
    "exploding gradient": {
        "relu, N(0, 1)": (lambda: mlp([100] * 4, "relu", "standard_normal"), SGD(0.1)),
        "relu, N(0, 0.5²)": (lambda: mlp([100] * 5, "relu", normal(0.5)), SGD(0.1)),
        "selu, N(0, 1)": (lambda: mlp([100] * 3, "selu", "standard_normal"), SGD(0.1)),
        "linear layers": (lambda: mlp([64] * 6, "linear", normal(0.4)), SGD(0.01)),
        "pixels as bytes": (lambda: mlp([100, 100], "relu"), SGD(0.1), 255),
    },
    "dead ReLU": {
        "biases of -5": (lambda: biased([64, 64], "relu", -5.0), SGD(0.1)),
        "negative weights": (lambda: biased([64], "relu", 0.0, NEGATIVE), SGD(0.1)),
        "a second layer of biases -9": (
            lambda: fnn.Network(
                [
                    fnn.Dense(64, "relu"),
                    fnn.Dense(64, "relu", bias_init=np.full(64, -9.0)),
                    fnn.Dense(10),
                ],
                784,
                "softmax_cross_entropy",
            ),
            Adam(1e-3),
        ),
    },
    "saturation": {
        "four sigmoid layers, N(0, 1)": (
            lambda: mlp([30] * 4, "sigmoid", "standard_normal"),
            SGD(0.1),
        ),
        "one sigmoid layer, N(0, 1)": (lambda: mlp([50], "sigmoid", "standard_normal"), SGD(0.1)),
        "tanh, N(0, 1)": (lambda: mlp([100], "tanh", "standard_normal"), SGD(0.1)),
        "hard tanh, N(0, 0.5²)": (lambda: mlp([100, 100], "hard_tanh", normal(0.5)), SGD(0.1)),
        "softsign, biases of 20": (lambda: biased([100], "softsign", 20.0), SGD(0.1)),
    },
    "symmetric units": {
        "sigmoid of zeros": (lambda: mlp([50], "sigmoid", "zeros"), SGD(0.1)),
        "relu of zeros": (lambda: mlp([50, 50], "relu", "zeros"), SGD(0.1)),
        "tanh of one constant": (constant, SGD(0.1)),
    },
    "learning rate too large": {
        "Adam, 1": (lambda: mlp([64, 64], "relu"), Adam(1.0)),
        "Adam, 0.3, tanh": (lambda: mlp([64, 64], "tanh"), Adam(0.3)),
        "SGD, 20, tanh": (lambda: mlp([64, 64], "tanh"), SGD(20.0)),
    },
    "learning rate too small": {
        "SGD, 1e-5": (lambda: mlp([64, 64], "relu"), SGD(1e-5)),
        "Adam, 1e-7": (lambda: mlp([64, 64], "relu"), Adam(1e-7)),
        "momentum, 1e-6": (lambda: mlp([64], "tanh"), SGD(1e-6, momentum=0.9)),
    },
    "divergence": {
        "SGD, 10,000": (lambda: mlp([64, 64], "relu"), SGD(1e4)),
        "squared error, SGD, 30": (lambda: mlp([64, 64], "relu", loss="mse"), SGD(30.0)),
    },
}
CASES = [
    pytest.param(fault, name, id=f"{fault}: {name}")
    for fault, cases in BROKEN.items()
    for name in cases
]

HEALTHY = {
    "relu": (lambda: mlp([256, 128], "relu"), Adam(1e-3)),
    "relu by SGD": (lambda: mlp([100], "relu"), SGD(0.1)),
    "tanh": (lambda: mlp([64, 64], "tanh"), SGD(0.1)),
    "sigmoid": (lambda: mlp([30], "sigmoid", "nielsen"), SGD(0.5)),
    "the book's, two hidden layers": (
        lambda: mlp([30, 30], "sigmoid", "nielsen", output="sigmoid", loss="binary_cross_entropy"),
        SGD(0.1),
    ),
    "eight of selu": (lambda: mlp([64] * 8, "selu"), Adam(1e-3)),
    "ten with BatchNorm": (lambda: mlp([64] * 10, "relu", batch_norm=True), Adam(1e-3)),
    "twenty residual blocks": (
        lambda: mlp([64] * 20, "relu", residual=True, batch_norm=True),
        Adam(1e-3),
    ),
    "six sigmoid layers with BatchNorm": (
        lambda: mlp([64] * 6, "sigmoid", batch_norm=True),
        SGD(0.05),
    ),
    "gelu": (lambda: mlp([128, 128], "gelu"), fnn.AdamW(1e-3)),
    "leaky relu, momentum": (lambda: mlp([128, 128], "leaky_relu"), SGD(0.05, momentum=0.9)),
    "dropout": (lambda: mlp([256, 256], "relu", dropout=0.3), Adam(1e-3)),
    "orthogonal tanh": (lambda: mlp([64] * 5, "tanh", "orthogonal"), fnn.NAdam(1e-3)),
    "logistic regression": (lambda: fnn.mlp([784, 10]), SGD(0.1)),
}


def train(net, digits, scale=1.0, **arguments):
    """The history, and the accuracy on other data."""
    (X, y), (X_test, y_test) = digits
    try:
        history = net.fit(scale * X, y, EPOCHS, callbacks=[fnn.GradientFlow(every=5)], **arguments)
    except fnn.DivergenceError as error:
        history = error.history
    return history, np.mean(net.predict(scale * X_test).argmax(axis=1) == y_test)


@pytest.mark.parametrize(("fault", "name"), CASES)
def test_a_broken_network_is_found_out_and_cured(digits, fault, name):
    make, optimizer, *scale = BROKEN[fault][name]
    scale = scale[0] if scale else 1.0
    (X, y), _ = digits
    net = make()
    before = {name: values.copy() for name, values in net.parameters.items()}
    found = net.diagnose(scale * X, y, optimizer=optimizer)
    assert found[0].fault == fault
    assert all(np.array_equal(values, before[name]) for name, values in net.parameters.items())
    cure = found[0].cures[0]
    _, broken = train(make(), digits, scale, optimizer=optimizer)
    _, cured = train(cure.apply(net), digits, scale, **{"optimizer": optimizer, **cure.fit})
    assert cured > broken + 0.05


# Where a run shows something graver than what brought it about, or cannot tell: small weights whose
# units die; units that are copies.
SEEN_OTHERWISE = {
    "relu of small weights",
    "relu, N(0, 1)",
    "relu, N(0, 0.5²)",
    "selu, N(0, 1)",
    "linear layers",
    "tanh of one constant",
}


@pytest.mark.parametrize(("fault", "name"), CASES)
def test_a_history_tells_what_went_wrong(digits, fault, name):
    make, optimizer, *scale = BROKEN[fault][name]
    history, _ = train(make(), digits, scale[0] if scale else 1.0, optimizer=optimizer)
    faults = [finding.fault for finding in history.diagnose()]
    assert (faults[:1] == [fault]) == (name not in SEEN_OTHERWISE)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_network_is_left_alone(digits, name):
    make, optimizer = HEALTHY[name]
    net = make()
    assert not net.diagnose(*digits[0], optimizer=optimizer)
    history, _ = train(net, digits, optimizer=optimizer)
    assert not history.diagnose()
    assert not net.diagnose(*digits[0])


def test_every_fault_is_in_the_tables():
    assert set(FAULTS) == {*BROKEN, "no progress", "overfitting"}
    order = list(FAULTS)
    for fault, others in BRINGS_ABOUT.items():
        assert all(order.index(other) > order.index(fault) for other in others), (
            "only a later fault can be left out"
        )


# --- other data -----------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(500, 13))
CURVE = np.linspace(-3, 3, 300)[:, None]
ANGLE = np.sqrt(np.linspace(0.05, 1, 200)) * 6
SPIRALS = (
    np.vstack(
        [side * np.column_stack([ANGLE * np.cos(ANGLE), ANGLE * np.sin(ANGLE)]) for side in (1, -1)]
    )
    / 3
)
SPIRAL = np.repeat([0, 1], 200)
LINEAR = TABLE[:, :3] @ [1.0, 2.0, 3.0] + 0.1 * RNG.normal(size=500)
HOUSES = 22 + 9 * TABLE[:, 0] * np.sign(TABLE[:, 1])
PRICES = 2e5 + 5e4 * TABLE[:, 0]


def stack(*layers, inputs, loss="softmax_cross_entropy"):
    return fnn.Network(list(layers), inputs, loss)


def zero_branches():
    branches = [
        fnn.Residual([fnn.Dense(64, "relu"), fnn.Dense(64, init="zeros")]) for _ in range(4)
    ]
    return stack(fnn.Dense(64, "relu"), *branches, fnn.Dense(10), inputs=784)


# Name → (network, optimiser, epochs, (X, y) or None for digits).
HEALTHY_TOO = {
    "digits, logistic from zeros": (
        lambda: stack(fnn.Dense(10, init="zeros"), inputs=784),
        Adam(1e-3),
        6,
        None,
    ),
    "digits, hidden layer from zeros": (
        lambda: stack(fnn.Dense(50, "tanh", init="zeros"), fnn.Dense(10), inputs=784),
        SGD(0.1),
        6,
        None,
    ),
    "digits, output from zeros": (
        lambda: stack(
            fnn.Dense(64, "relu"), fnn.Dense(64, "relu"), fnn.Dense(10, init="zeros"), inputs=784
        ),
        Adam(1e-3),
        6,
        None,
    ),
    "digits, residual branches from zeros": (zero_branches, Adam(1e-3), 6, None),
    "linear regression": (
        lambda: stack(fnn.Dense(1), inputs=3, loss="mse"),
        SGD(0.05),
        20,
        (TABLE[:, :3], LINEAR),
    ),
    "linear regression by L-BFGS": (
        lambda: stack(fnn.Dense(1), inputs=3, loss="mse"),
        fnn.LBFGS(),
        20,
        (TABLE[:, :3], LINEAR),
    ),
    "values of about twenty": (
        lambda: fnn.mlp([13, 100, 100, 100, 1], "relu", loss="mse"),
        Adam(1e-3),
        60,
        (TABLE, HOUSES),
    ),
    "spirals, tanh": (lambda: fnn.mlp([2, 32, 32, 2], "tanh"), Adam(1e-2), 200, (SPIRALS, SPIRAL)),
    "a sine, sigmoid": (
        lambda: fnn.mlp([1, 50, 50, 1], "sigmoid", loss="mse"),
        Adam(1e-2),
        200,
        (CURVE, np.sin(2 * CURVE[:, 0])),
    ),
    "a sine by L-BFGS": (
        lambda: fnn.mlp([1, 30, 1], "tanh", loss="mse"),
        fnn.LBFGS(),
        100,
        (CURVE, np.sin(2 * CURVE[:, 0])),
    ),
}


@pytest.mark.parametrize("name", HEALTHY_TOO)
def test_other_healthy_networks_are_left_alone(digits, name):
    make, optimizer, epochs, data = HEALTHY_TOO[name]
    X, y = data or digits[0]
    net = make()
    assert str(net.diagnose(X, y, optimizer=optimizer)) == "no fault found"
    history = net.fit(X, y, epochs, optimizer=optimizer, callbacks=[fnn.GradientFlow(every=5)])
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert str(history.diagnose()) == "no fault found"
    assert str(net.diagnose(X, y, optimizer=optimizer)) == "no fault found"


def test_dropout_and_tiny_batches_are_not_dead_units(digits):
    X, y = digits[0]
    net = mlp([100, 100], "relu", dropout=0.5)
    assert not net.diagnose(X[:500], y[:500], optimizer=SGD(0.01), batch_size=2)


def test_a_network_at_its_optimum_needs_no_larger_steps():
    X, y = TABLE[:, :3], LINEAR + 5 * RNG.normal(size=500)
    net = stack(fnn.Dense(1), inputs=3, loss="mse")
    for _ in range(2):
        history = net.fit(
            X, y, 300, batch_size=500, optimizer=SGD(0.05), callbacks=[fnn.GradientFlow(every=1)]
        )
    assert not history.diagnose()
    assert not net.diagnose(X, y, optimizer=SGD(0.05))


@pytest.mark.parametrize(
    ("make", "optimizer", "data", "fault", "words"),
    [
        (
            lambda: fnn.mlp([13, 30, 1], "relu", loss="mse"),
            Adam(1e-3),
            (TABLE, PRICES),
            "exploding gradient",
            "the targets have",
        ),
        (
            lambda: fnn.mlp([784, 100, 10], "relu"),
            SGD(0.1),
            "tiny",
            None,
            "inputs scaled to mean 0",
        ),
        (
            lambda: fnn.mlp([784, *[20] * 30, 10], "relu", init=normal(1e-3)),
            SGD(0.1),
            None,
            "dead ReLU",
            "→ init='auto'",
        ),
        (
            lambda: fnn.mlp([13, 30, 1], "relu", output="relu", loss="mse"),
            Adam(1e-2),
            (TABLE, -10 - np.abs(TABLE[:, 0])),
            "dead ReLU",
            "→ activation='linear' in the last layer",
        ),
        (
            lambda: fnn.mlp([13, 30, 1], "relu", output="sigmoid", loss="mse"),
            Adam(1e-3),
            (TABLE, HOUSES),
            None,
            "'linear' in the last",
        ),
        (
            lambda: fnn.mlp([784, 30, 30, 30, 10], "sigmoid"),
            SGD(0.1),
            None,
            "no progress",
            "activation='relu'",
        ),
        (
            lambda: fnn.mlp([13, 16, 1], "relu", loss="mse", dtype="float64"),
            None,
            (TABLE, HOUSES * 1e200),
            "divergence",
            "before any step",
        ),
    ],
)
def test_other_causes_are_told(digits, make, optimizer, data, fault, words):
    (X, y), _ = digits
    X, y = (1e-4 * X, y) if data == "tiny" else data or (X, y)
    found = make().diagnose(X, y, optimizer=optimizer)
    assert found
    assert found[0].fault == (fault or found[0].fault)
    assert words in str(found[0])


def test_what_was_not_looked_at_is_said(digits):
    (X, y), _ = digits
    assert str(mlp([8], "relu").fit(X[:100], y[:100]).diagnose()) == (
        "no fault found; the layers were not recorded, which takes fit(…, "
        "callbacks=[GradientFlow()])"
    )


def test_a_history_does_not_offer_what_the_network_has(digits):
    (X, y), _ = digits
    history = mlp([100], "tanh", batch_norm=True).fit(
        25 * X, y, 3, optimizer=Adam(1.0), callbacks=[fnn.GradientFlow()]
    )
    assert "init='auto'" not in str(history.diagnose())
    assert "BatchNorm() between" not in str(history.diagnose())


def test_schedules_are_not_replaced_by_numbers(digits):
    found = mlp([64, 64], "tanh").diagnose(
        *digits[0], optimizer=SGD(fnn.Warmup(5, fnn.Constant(20.0)))
    )
    assert found[0].fault == "learning rate too large"
    assert found[0].cures[0].change.startswith("a schedule with rates ")


def test_an_error_of_divergence_can_be_pickled(digits):
    with pytest.raises(fnn.DivergenceError) as caught:
        mlp([64], "relu", loss="mse").fit(
            *digits[0], optimizer=SGD(1e4), callbacks=[fnn.GradientFlow()]
        )
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.epoch, again.step) == (
        str(caught.value),
        caught.value.epoch,
        caught.value.step,
    )
    assert again.history.diagnose()[0].fault == "divergence"


@pytest.mark.parametrize(
    ("activation", "optimizer"),
    [("relu", Adam(3e-3)), ("tanh", Adam(1e-2)), ("sigmoid", Adam(1e-2))],
)
def test_overfitting_is_found_out_and_cured(digits, activation, optimizer):
    (X, y), validation = digits

    def fit(net, **arguments):
        return net.fit(
            X[:300], y[:300], 60, **{"optimizer": optimizer, "validation": validation, **arguments}
        )

    net = mlp([128], activation)
    history = fit(net)
    (found,) = history.diagnose()
    assert found.fault == "overfitting"
    assert found.measured == history["val_loss"][-1] / min(history["val_loss"])
    cured = found.cures[0].apply(net)
    fit(cured, **found.cures[0].fit)
    assert cured.evaluate(*validation)["loss"] < 0.9 * history["val_loss"][-1]
