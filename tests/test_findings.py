"""The records of a diagnosis: findings in words, cures, histories, and arguments."""

import numpy as np
import pytest
from builders import features, targets
from diagnosis_cases import digit_samples, mlp

import fastnn as fnn
from fastnn.diagnostics.findings import Cure, Diagnosis, Finding
from fastnn.optim.optimizers import as_call


@pytest.fixture(scope="module")
def digits():
    return digit_samples()


def test_words_name_layer_figure_threshold_cause_and_cures(digits):
    found = mlp([30] * 4, "sigmoid", "nielsen").diagnose(*digits[0])
    (finding,) = found
    text = str(found)
    assert text == str(finding) == repr(found)
    assert text.startswith(
        "layers 0, 1: vanishing gradient: learning speed of the output over the slowest layer's is "
    )
    assert f"{finding.measured:.3g}" in text
    assert "fault from 100 on" in text
    assert "sigmoid" in finding.cause
    assert "per layer" in finding.cause
    assert (
        finding.cures[0].change == "activation='relu' with init='he_normal' in every hidden layer"
    )
    assert "\n  → " in text
    assert "\n  or BatchNorm()" in text


def test_nothing_found_says_so():
    assert str(Diagnosis()) == "no fault found"


def test_layers_are_named_as_parameters_are(digits):
    layers = [
        fnn.Dense(30, "relu"),
        fnn.Residual([fnn.Dense(30, "relu", bias_init=np.full(30, -50.0)), fnn.Dense(30)]),
        fnn.Dense(10),
    ]
    found = fnn.Network(layers, 784, "softmax_cross_entropy").diagnose(*digits[0])
    assert found[0].layers == ("1.0",)
    assert str(found[0]).startswith("layer 1.0: dead ReLU")


def test_what_a_network_has_already_is_no_cure(digits):
    layers = [fnn.Dense(64, init="normal"), fnn.LayerNorm(), fnn.Activation("relu")] * 6
    net = fnn.Network(
        [*layers, fnn.Dense(10, init=fnn.Initializer("normal", std=5.0))],
        784,
        "softmax_cross_entropy",
    )
    for finding in net.diagnose(*digits[0]):
        assert all(
            cure.fit or repr(cure.layers(net.layers)) != repr(net.layers) for cure in finding.cures
        )
    (found,) = mlp([64] * 6, "sigmoid").diagnose(*digits[0])
    assert len(found.cures) == 3
    (found,) = mlp([64, 63, 62, 61, 60, 59], "sigmoid").diagnose(*digits[0])
    assert "Residual" not in str(found)


def test_a_cure_leaves_the_network_as_it_is():
    net = mlp([8], "sigmoid", backend="numpy", dtype="float64", seed=5)
    twin = Cure("nothing").apply(net)
    assert (twin.seed, twin.dtype, twin.backend, twin.layers) == (
        5,
        np.float64,
        "numpy",
        net.layers,
    )
    assert twin.state is not net.state


def test_engines_agree(engine):
    X, y = features(40), targets("labels", 40)
    for optimizer in (None, fnn.SGD(50.0)):
        nets = [
            fnn.mlp([4, 6, 6, 6, 3], "sigmoid", dtype="float64", backend=name)
            for name in (engine, "numpy")
        ]
        left, right = (net.diagnose(X, y, optimizer=optimizer) for net in nets)
        assert [(f.fault, f.layers) for f in left] == [(f.fault, f.layers) for f in right]
        np.testing.assert_allclose(
            [f.measured for f in left], [f.measured for f in right], rtol=1e-6
        )


@pytest.mark.parametrize(
    ("loss", "fault"), [("mse", "divergence"), ("softmax_cross_entropy", "exploding gradient")]
)
def test_parameters_of_enormous_size(engine, loss, fault):
    net = fnn.mlp([4, 8, 3], loss=loss, dtype="float64", backend=engine)
    net.parameters["0.weight"] = np.full((4, 8), 1e300)
    found = net.diagnose(features(20), targets("values" if loss == "mse" else "labels", 20))
    assert found[0].fault == fault


def test_a_history_without_gradient_flow_knows_of_divergence_and_overfitting_only():
    assert fnn.History().diagnose() == []
    history = fnn.History({"loss": [1.0, 0.5, 0.2, 0.1], "val_loss": [1.0, 0.8, 0.9, 1.1]})
    (found,) = history.diagnose()
    assert isinstance(found, Finding)
    assert "after epoch 2" in found.cause


def test_arguments_are_checked(digits):
    net = mlp([8], "relu", backend="numpy")
    with pytest.raises(ValueError, match="unknown optimizer 'adm'"):
        net.diagnose(*digits[0], optimizer="adm")
    with pytest.raises(ValueError, match="batch_size"):
        net.diagnose(*digits[0], batch_size=0)
    with pytest.raises(ValueError, match="without Dense layers"):
        fnn.Network([fnn.BatchNorm()], 784, "mse").diagnose(digits[0][0], digits[0][0])
    with pytest.raises(ValueError, match="784"):
        net.diagnose(digits[0][0][:, :5], digits[0][1])


def test_an_optimizer_as_the_call_that_makes_it():
    assert as_call(fnn.Adam()) == "Adam(lr=0.001)"
    nesterov = fnn.SGD(0.5, momentum=0.9, nesterov=True)
    assert as_call(nesterov) == "SGD(lr=0.5, momentum=0.9, nesterov=True)"
    assert as_call(fnn.LBFGS()) == "LBFGS()"
