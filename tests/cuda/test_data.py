"""Samples in the simulator: streamed, resident and already on the GPU, all give the same bits."""

import numpy as np
import pytest
from builders import assert_same_bits
from fake_gpu import OnGpu
from training_cases import LABELS, X

import fastnn as fnn
from fastnn._kernels.numba_cuda.runtime import plan, sample_transfer

FEW, WEIGHTS = 6, np.linspace(0.5, 2, 6)


class Here(OnGpu):
    """A user's array in the simulator's memory, which is NumPy's."""

    @property
    def flags(self):
        return self.memory.flags

    def reshape(self, *shape):
        return self.memory.reshape(*shape)


def network(**options):
    layers = [fnn.Dense(3, "gelu"), fnn.BatchNorm(), fnn.Dropout(0.3), fnn.Dense(3, l2=0.01)]
    return fnn.Network(layers, 4, "softmax_cross_entropy", "float64", "cuda", seed=3, **options)


@pytest.fixture(params=["persistent", "graph"])
def path(request, monkeypatch):
    if request.param == "graph":
        monkeypatch.setattr(plan, "MAX_WIDTH", 1)
    assert network().engine._plan.path == request.param
    return request.param


def train(features):
    net = network()
    history = net.fit(
        features,
        LABELS[:FEW],
        1,
        2,
        fnn.Adam(0.1),
        sample_weight=WEIGHTS,
        validation=(features, LABELS[:FEW]),
    )
    return (
        net,
        history,
        net.predict(
            features[:1] if isinstance(features, np.ndarray) else Here(features.memory[:1])
        ),
    )


def test_bits_do_not_depend_on_the_way_of_the_data(path, monkeypatch):
    net, history, predictions = train(X[:FEW])
    for way in ("there already", "streamed"):
        if way == "streamed":
            monkeypatch.setattr(sample_transfer, "_RESIDENT_FRACTION", 0.0)
            # four rows of X, labels and weights
            monkeypatch.setattr(sample_transfer, "PIECE_BYTES", 4 * 8 * 6)
        other, twin, same = train(Here(X[:FEW]) if way == "there already" else X[:FEW])
        assert_same_bits(net, other)
        assert history["val_loss"] == twin["val_loss"]
        np.testing.assert_array_equal(predictions, same)


@pytest.mark.parametrize(("place", "bad"), [(0, np.nan), (13, np.inf), (23, -np.inf)])
def test_a_number_that_is_not_finite_is_found_where_it_lies(bad, place):
    spoilt = X[:FEW].copy()
    spoilt.flat[place] = bad
    with pytest.raises(ValueError, match=f"X is {bad} at row {place // 4}, column {place % 4}"):
        network().fit(Here(spoilt), LABELS[:FEW])


def test_parameters_that_become_infinite_are_noticed():
    """The loss of the last step is finite, and its update is not."""
    net = fnn.Network([fnn.Dense(2)], 4, "mse", "float32", "cuda")
    net.parameters["0.weight"] = np.full((4, 2), 1e18, np.float32)
    before = net.state.theta.copy()
    with pytest.raises(fnn.DivergenceError, match="a parameter became infinite or NaN"):
        net.fit(X[:5], X[:5, :2], 1, 5, fnn.SGD(1e30))
    np.testing.assert_array_equal(net.state.theta, before)


@pytest.mark.parametrize("widest", [1, 128])
def test_what_layers_put_out_before_any_has_parameters(monkeypatch, widest):
    monkeypatch.setattr(plan, "MAX_WIDTH", widest)
    layers = [fnn.Dropout(0.3), fnn.Activation("tanh"), fnn.Dense(3, "relu"), fnn.Dense(2)]
    found, expected = (
        fnn.Network(layers, 4, "mse", "float32", backend).activations(X[:3])
        for backend in ("cuda", "numpy")
    )
    for here, there in zip(found, expected, strict=True):
        np.testing.assert_allclose(here, there, atol=1e-6)
