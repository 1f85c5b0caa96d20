"""The engine on a fake driver, which runs work as late as possible, so missing waits show."""

from types import SimpleNamespace

import fake_gpu
import numpy as np
import pytest
from builders import assert_same_bits
from conftest import array_at
from training_cases import LABELS, At, X, network, noisy

import fastnn as fnn
from fastnn._kernels import opcodes
from fastnn._kernels.numba_cuda.kernels.context import ARGUMENTS
from fastnn._kernels.numba_cuda.kernels.op_table import OPERATION
from fastnn._kernels.numba_cuda.runtime import sample_transfer

RECORDS = {"ops": OPERATION, "loss": opcodes.LOSS, "optimizer": opcodes.OPTIMIZER}
KINDS = {**RECORDS, "real": np.float64, "int64": np.int64, "float64": np.float64}
ARRAYS = [(name, KINDS[kind]) for name, kind in ARGUMENTS if kind != "scalar"]


@pytest.fixture(params=["persistent", "graph"])
def gpu(request, device, fake, monkeypatch):
    kernels = fake_gpu.Kernels()
    fake.run = lambda launch: kernels.run(
        launch.name,
        SimpleNamespace(**{name: argument(launch, name, kind) for name, kind in ARRAYS}),
    )
    return fake_gpu.install(monkeypatch, request.param, device, kernels)


def argument(launch, name, kind):
    place = [name for name, _ in ARGUMENTS].index(name)
    return array_at(launch, name, kind) if launch.words[7 * place + 2] else np.empty(0, kind)


@pytest.fixture(params=["resident", "streamed"])
def nets(request, gpu, monkeypatch):
    if request.param == "streamed":
        monkeypatch.setattr(sample_transfer, "_RESIDENT_FRACTION", 0.0)
        # nine rows of X, labels and weights
        monkeypatch.setattr(sample_transfer, "PIECE_BYTES", 9 * 8 * 6)
    return noisy(backend="cuda"), noisy(backend="numpy")


def test_training_and_predictions(nets):
    options = {
        "validation": (X, LABELS),
        "sample_weight": np.linspace(0.5, 2, 40),
        "optimizer": fnn.Adam(0.05),
    }
    histories = [
        net.fit(
            X,
            LABELS,
            4,
            4,
            callbacks=[fnn.GradientFlow(3), fnn.EarlyStopping(patience=0)],
            **options,
        )
        for net in nets
    ]
    assert_same_bits(*nets)
    np.testing.assert_allclose(histories[0]["val_loss"], histories[1]["val_loss"], rtol=1e-12)
    assert histories[0].gradient_flow.to_plain() == histories[1].gradient_flow.to_plain()
    np.testing.assert_allclose(*(net.predict(X) for net in nets), rtol=1e-12)


def test_a_callback_that_writes(nets):
    def halve(training):
        training.net.state.theta[:] *= 0.5

    for net in nets:
        net.fit(
            X,
            LABELS,
            3,
            4,
            callbacks=[
                At("on_epoch_end", halve),
                At("on_epoch_end", lambda t: t.net.evaluate(X, LABELS)),
            ],
        )
    assert_same_bits(*nets)


def test_divergence(gpu):
    nets = [
        network([fnn.Dense(6, "relu"), fnn.BatchNorm(), fnn.Dense(3)], backend=backend)
        for backend in ("cuda", "numpy")
    ]
    for net in nets:
        net.fit(X, LABELS, 1, 4)
        with pytest.raises(fnn.DivergenceError):
            net.fit(X, LABELS, 2, 4, fnn.SGD(1e308))
    assert_same_bits(*nets)


def test_nothing_is_left_behind(gpu, fake, nets):
    net = nets[0]
    net.fit(X, LABELS, 2, 4)
    gpu.synchronize()
    used = fake.used
    for _ in range(3):
        net.fit(X, LABELS, 2, 4)
    gpu.synchronize()
    assert fake.used == used
