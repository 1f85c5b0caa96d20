"""Ensembles of networks in the CUDA engine's kernels in the simulator, against the reference."""

import pytest
from kernel_cases import (
    ENSEMBLE,
    PATHS,
    TOLERANCE,
    assert_close,
    assert_evaluations_agree,
    assert_steps_agree,
    network,
    on_path,
    samples_for,
)

import fastnn as fnn
from fastnn._kernels.numba_cuda.engine import CudaEngine
from fastnn._kernels.reference_engine import ReferenceEngine
from fastnn.nn.losses import LOSSES

# One whose members have factors in each layer is ENSEMBLE; in this one they have them in the first.
SHARED = [fnn.Dense(5, "gelu"), fnn.Dropout(0.2), fnn.Dense(3, bias_lr_factor=0.1)]
MINI = [fnn.Dropout(0.2), fnn.BatchEnsemble(2, SHARED, "first")]
ENSEMBLES = pytest.mark.parametrize("layers", [ENSEMBLE, MINI], ids=["ensemble", "mini"])


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    on_path(request.param, monkeypatch)


@ENSEMBLES
@pytest.mark.parametrize("labels", [False, True], ids=["", "labels"])
def test_ensembles(path, layers, labels):
    net = network(layers)
    optimizer = fnn.AdamW(weight_decay=0.1, clip_norm=0.5)
    assert_steps_agree(net, samples_for(net, 7, labels, weights=True), optimizer, 3)
    assert_steps_agree(net, samples_for(net, 7, labels), fnn.SGD(0.1, weight_decay=0.1), 3)


@ENSEMBLES
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("path", ["persistent", "graph"], indirect=True)
def test_predictions_of_ensembles(path, layers, loss):
    net = network(layers, loss)
    samples = samples_for(net, 37, weights=True)
    engines = [make(net.program) for make in (ReferenceEngine, CudaEngine)]
    for linked in (False, True):
        expected, found = (e.forward(net.state, samples.X, linked)[0] for e in engines)
        assert_close(expected, found, TOLERANCE["float64"], "outputs")
    (_, expected), (_, found) = (e.gradients(net.state, samples, False) for e in engines)
    assert_close(expected, found, TOLERANCE["float64"], "gradients")
    assert_evaluations_agree(net, samples)


@pytest.mark.parametrize("outputs", [1, 40])
def test_one_output_and_many(outputs):
    loss = "binary_cross_entropy" if outputs == 1 else "softmax_cross_entropy"
    net = network([fnn.BatchEnsemble(3, [fnn.Heads(outputs)])], loss)
    assert_evaluations_agree(net, samples_for(net, 9, labels=outputs > 1))
    assert_steps_agree(net, samples_for(net, 5, labels=outputs > 1), fnn.SGD(0.1), 3)
