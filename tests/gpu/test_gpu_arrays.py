"""Arrays of PyTorch, CuPy and JAX on the GPU are used without a copy."""

import numpy as np
import pytest
from builders import assert_same_bits, features
from gpu_cases import BACKEND, MLP, PATHS, make

import fastnn as fnn

# Other libraries issue warnings when they are imported.
pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
each_path = pytest.mark.parametrize("path", PATHS)


def torch_with_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no GPU: built without CUDA, or for another driver")
    return torch


def _torch(array):
    return torch_with_gpu().from_numpy(array.copy()).cuda()


def _cupy(array):
    return pytest.importorskip("cupy").asarray(array)


def _jax(array):
    jax = pytest.importorskip("jax")
    if jax.default_backend() != "gpu":
        pytest.skip("JAX sees no GPU: its CUDA plugin is not installed")
    return jax.numpy.asarray(array)


LIBRARIES = {"torch": _torch, "cupy": _cupy, "jax": _jax}


@pytest.fixture(params=LIBRARIES)
def put(request):
    """Puts a NumPy array on the GPU."""
    return LIBRARIES[request.param]


def samples(rows=300):
    X = features(rows).astype(np.float32)
    return X, X[:, :3].argmax(axis=1)


@each_path
def test_training_and_prediction_on_the_gpus_arrays(put, path):
    X, y = samples()
    here, there = (make(MLP[path], "softmax_cross_entropy") for _ in range(2))
    X_there = put(X)
    here.fit(X, y, epochs=3, batch_size=32, progress=False)
    there.fit(X_there, y, epochs=3, batch_size=32, progress=False)
    assert_same_bits(here, there)
    np.testing.assert_array_equal(here.predict(X), there.predict(X_there))
    assert here.evaluate(X, y) == there.evaluate(X_there, y)


def test_labels_on_the_gpu(put):
    X, y = samples()
    here, there = (make(MLP["persistent"], "softmax_cross_entropy") for _ in range(2))
    here.fit(X, y, batch_size=32, progress=False)
    there.fit(put(X), put(y), batch_size=32, progress=False)
    assert_same_bits(here, there)


def test_a_row_that_is_not_finite_is_named(put):
    X, y = samples()
    X[17, 2] = np.nan
    net = make(MLP["persistent"], "softmax_cross_entropy")
    with pytest.raises(ValueError, match="nan"):
        net.fit(put(X), y, progress=False)
    with pytest.raises(ValueError, match="nan"):
        net.predict(put(X))


def test_validation_on_the_gpu(put):
    X, y = samples()
    here, there = (make(MLP["persistent"], "softmax_cross_entropy") for _ in range(2))
    ours = here.fit(X, y, validation=(X[:50], y[:50]), progress=False)
    theirs = there.fit(put(X), y, validation=(put(X[:50]), y[:50]), progress=False)
    assert ours["val_loss"] == theirs["val_loss"]
    parts = [make(MLP["persistent"], "softmax_cross_entropy") for _ in range(2)]
    parts[0].fit(X, y, validation=0.25, progress=False)
    parts[1].fit(put(X), y, validation=0.25, progress=False)
    assert_same_bits(*parts)


def test_no_copy_is_made():
    """Training on a large array of PyTorch's allocates little memory."""
    torch = torch_with_gpu()
    X = torch.rand((1_000_000, 256), device="cuda")  # one gigabyte
    y = np.zeros(len(X), np.int64)
    net = fnn.Network(
        [fnn.Dense(16, "relu"), fnn.Dense(2)], 256, "softmax_cross_entropy", backend=BACKEND
    )
    net.fit(X[:1000], y[:1000], batch_size=500, progress=False)
    torch.cuda.synchronize()
    free, _ = torch.cuda.mem_get_info()

    class Watch:
        least = free

        def on_chunk_end(self, training):
            self.least = min(self.least, torch.cuda.mem_get_info()[0])

    watch = Watch()
    net.fit(X, y, batch_size=5000, callbacks=[watch], progress=False)
    assert free - watch.least < 200 << 20
