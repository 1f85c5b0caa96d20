"""Products in TF32 and bfloat16 round as expected; those in "float32" do not."""

import numpy as np
import pytest
from gpu_cases import BACKEND, gradient_error

import fastnn as fnn

pytestmark = pytest.mark.real

# Rounding of the inputs of a product: 2⁻¹¹ for TF32, 2⁻⁹ for bfloat16; a gradient goes through
# several.
LIMITS = {"float32": 2e-5, "tf32": 1e-2, "bf16": 4e-2}


def network(precision, **options):
    layers = [fnn.Dense(1024, "relu"), fnn.Dense(1024, "relu"), fnn.Dense(10)]
    return fnn.Network(
        layers, 784, "softmax_cross_entropy", backend=BACKEND, precision=precision, **options
    )


def data(rows=512):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, 784)).astype(np.float32)
    return X, (X[:, :10] + X[:, 10:20]).argmax(axis=1)


@pytest.mark.parametrize("precision", LIMITS)
def test_gradients_are_as_precise_as_asked(precision):
    X, y = data()
    error, _ = gradient_error(network(precision), X, y)
    assert error <= LIMITS[precision]


def test_a_lower_precision_is_not_the_same():
    """It needs cuBLASLt, and tensor cores that support it, which Turing's do not."""
    from fastnn._kernels.numba_cuda.driver.device import open_device
    from fastnn._kernels.numba_cuda.runtime import cublaslt

    if reason := cublaslt.unavailable_reason():
        pytest.skip(f"large products are made without cuBLASLt here: {reason}")
    if (capability := open_device().compute_capability) < (8, 0):
        major, minor = capability
        pytest.skip(f"TF32 and bfloat16 need compute capability 8.0; this GPU has {major}.{minor}")
    X, y = data()
    found = {precision: network(precision).gradients(X, y)[1]["1.weight"] for precision in LIMITS}
    assert not np.array_equal(found["tf32"], found["float32"])
    assert not np.array_equal(found["bf16"], found["float32"])


@pytest.mark.parametrize("precision", LIMITS)
def test_it_learns_at_any_precision(precision):
    X, y = data(4096)
    net = network(precision)
    history = net.fit(X, y, epochs=8, batch_size=256, progress=False)
    assert net.parameters["0.weight"].dtype == np.float32
    assert history["loss"][-1] < 0.5 * history["loss"][0]


@pytest.mark.parametrize("precision", LIMITS)
def test_the_same_bits_at_any_precision(precision):
    X, y = data(1000)
    nets = [network(precision) for _ in range(2)]
    for net in nets:
        net.fit(X, y, epochs=3, batch_size=256, progress=False)
    np.testing.assert_array_equal(nets[0].state.theta, nets[1].state.theta)
