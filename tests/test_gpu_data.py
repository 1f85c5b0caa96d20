"""Samples on the device: streamed where they do not fit, used in place where they are there."""

import ctypes
from types import SimpleNamespace

import fake_gpu
import numpy as np
import pytest
from builders import assert_same_bits
from training_cases import LABELS, VALUES, X, network, noisy, raises

import fastnn as fnn
from fastnn import engines
from fastnn._kernels import opcodes
from fastnn._kernels.numba_cuda.driver.gpu_arrays import GpuArray
from fastnn._kernels.numba_cuda.driver.launch import Gemm
from fastnn._kernels.numba_cuda.kernels.context import ARRAY_NAMES
from fastnn._kernels.numba_cuda.runtime import cublaslt, cublaslt_products, sample_transfer
from fastnn._kernels.numba_cuda.runtime.cublaslt_products import CublasLtProducts
from fastnn.cli import main
from fastnn.data import validation as validate
from fastnn.training.samples import checked_samples

WEIGHTS = np.linspace(0.5, 2, len(X))


@pytest.fixture(params=["persistent", "graph"])
def gpu(request, monkeypatch):
    return fake_gpu.install(monkeypatch, request.param)


@pytest.fixture
def narrow(monkeypatch):
    """Hardly more room for samples than a mini-batch needs."""
    made = []

    class Streams(sample_transfer.StreamedSamples):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(sample_transfer, "_RESIDENT_FRACTION", 0.0)
    # nine rows of X, labels and weights
    monkeypatch.setattr(sample_transfer, "PIECE_BYTES", 9 * 8 * 6)
    monkeypatch.setattr(sample_transfer, "StreamedSamples", Streams)
    return made


def assert_close(found, expected):
    """Predictions, figures by name, or arrays of layers; rounding depends on the number of rows."""
    if isinstance(expected, dict | list):
        found, expected = (
            list(each.values()) if isinstance(each, dict) else each for each in (found, expected)
        )
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-11)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-11)


# --- streamed samples ----------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lbfgs"])
def test_streaming_gives_the_same_bits(gpu, narrow, monkeypatch, optimizer, shuffle):
    if optimizer == "lbfgs":
        # L-BFGS takes all samples at once.
        monkeypatch.setattr(sample_transfer, "PIECE_BYTES", 1 << 20)
    nets = noisy(backend="cuda"), noisy(backend="numpy")
    options = {
        "shuffle": shuffle,
        "sample_weight": WEIGHTS,
        "validation": (X, LABELS),
        "optimizer": optimizer,
    }
    histories = [
        net.fit(X, LABELS, 3, 4, callbacks=[fnn.GradientFlow(2)], **options) for net in nets
    ]
    assert_same_bits(*nets)
    np.testing.assert_allclose(histories[0]["val_loss"], histories[1]["val_loss"], rtol=1e-12)
    assert histories[0].gradient_flow.to_plain() == histories[1].gradient_flow.to_plain()
    assert len(narrow) == 2  # one for the samples, one for the rows to validate with, made once
    assert narrow[0].max_rows == (40 if optimizer == "lbfgs" else 9)


@pytest.mark.parametrize("method", ["predict", "forward"])
def test_predictions_stream(gpu, narrow, method):
    nets = noisy(backend="cuda"), noisy(backend="numpy")
    found, expected = (getattr(net, method)(X) for net in nets)
    # Rounding of BLAS depends on the number of rows.
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    assert narrow[0].max_rows < len(X)
    spoilt = X.copy()
    spoilt[3, 1] = np.inf  # in the first of several pieces
    with raises(ValueError, "X is inf at row 3, column 1"):
        nets[0].predict(spoilt)


def test_evaluations_stream(gpu, narrow):
    nets = noisy(backend="cuda"), noisy(backend="numpy")
    samples = checked_samples(nets[0], X, LABELS, WEIGHTS)
    found = nets[0].engine.evaluate(nets[0].state, samples)
    expected = nets[1].engine.evaluate(nets[1].state, samples)
    assert narrow[0].max_rows < len(X)
    np.testing.assert_allclose(found.outputs, expected.outputs, rtol=1e-11)
    for name in ("loss", "weight", "correct_weight"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-11), name


def test_streams_of_values_and_of_a_memory_map(gpu, narrow, tmp_path):
    mapped = np.memmap(tmp_path / "X", X.dtype, "w+", shape=X.shape)
    mapped[:] = X
    nets = [network([fnn.Dense(2)], "mse", backend=backend) for backend in ("cuda", "numpy")]
    for net in nets:
        net.fit(mapped, VALUES, 2, 5)
    assert_same_bits(*nets)


def test_a_divergence_in_a_stream(gpu, narrow):
    nets = [
        network([fnn.Dense(6, "relu"), fnn.BatchNorm(), fnn.Dense(3)], backend=backend)
        for backend in ("cuda", "numpy")
    ]
    for net in nets:
        with raises(fnn.DivergenceError, "diverged"):
            net.fit(X, LABELS, 3, 4, fnn.SGD(1e300))
        net.fit(X, LABELS, 1, 4)
    assert_same_bits(*nets)


def test_a_mini_batch_must_fit(gpu, narrow):
    with raises(MemoryError, "mini-batches of 10 samples", "lower batch_size"):
        noisy(backend="cuda").fit(X, LABELS, batch_size=10, sample_weight=WEIGHTS)
    with raises(MemoryError, "of 40 samples"):
        noisy(backend="cuda").gradients(X, LABELS)


def test_the_limit_can_be_set(gpu, monkeypatch):
    net = fnn.mlp([1000, 1], loss="mse", backend="cuda")
    big, y = np.ones((2000, 1000), np.float32), np.zeros(2000)
    sizes = []
    for limit in (None, "4000000"):
        if limit is not None:
            monkeypatch.setenv("FASTNN_CUDA_MEMORY", limit)
        gpu.uploads.clear()
        net.fit(big, y, batch_size=10)
        sizes.append(max(gpu.uploads))
    assert sizes[0] == big.nbytes
    assert 4000 * 10 < sizes[1] < 1_000_000
    for mistake in ("4 GB", "-1", "0"):
        monkeypatch.setenv("FASTNN_CUDA_MEMORY", mistake)
        with raises(ValueError, "FASTNN_CUDA_MEMORY must be a number of bytes", mistake):
            net.fit(big, y)


# --- arrays on the GPU ------------------------------------------------------------------------


def test_features_on_the_gpu_are_not_copied(gpu):
    given = fake_gpu.OnGpu(X), fake_gpu.OnGpu(LABELS.astype(np.int32)), fake_gpu.OnGpu(WEIGHTS)
    nets = noisy(backend="cuda"), noisy(backend="numpy")
    histories = []
    for net, (features, labels, weights) in zip(nets, (given, (X, LABELS, WEIGHTS)), strict=True):
        histories.append(
            net.fit(features, labels, 3, 7, sample_weight=weights, validation=(features, labels))
        )
    assert X.nbytes not in gpu.uploads + gpu.downloads
    assert_same_bits(*nets)
    np.testing.assert_allclose(histories[0]["val_loss"], histories[1]["val_loss"], rtol=1e-12)
    for net, features in zip(nets, (given[0], X), strict=True):
        net.found = (
            net.predict(features),
            net.forward(features),
            net.evaluate(features, LABELS),
            net.activations(features),
        )
        net.found += (net.gradients(features, LABELS)[0],)
    assert type(nets[0].found[0]) is np.ndarray
    for found, expected in zip(nets[0].found, nets[1].found, strict=True):
        assert_close(found, expected)
    assert X.nbytes not in gpu.uploads + gpu.downloads


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_a_fraction_of_features_on_the_gpu_is_held_out(gpu, optimizer):
    nets = noisy(backend="cuda"), noisy(backend="numpy")
    histories = [
        net.fit(features, LABELS, 3, 7, optimizer, validation=0.25, callbacks=[fnn.GradientFlow(2)])
        for net, features in zip(nets, (fake_gpu.OnGpu(X), X), strict=True)
    ]
    np.testing.assert_allclose(histories[0]["val_loss"], histories[1]["val_loss"], rtol=1e-12)
    assert histories[0].gradient_flow.input_scale == histories[1].gradient_flow.input_scale
    assert_same_bits(*nets)


def test_a_diagnosis_of_features_on_the_gpu(gpu):
    nets = noisy(backend="cuda"), noisy(backend="numpy")
    found, expected = (
        net.diagnose(features, LABELS)
        for net, features in zip(nets, (fake_gpu.OnGpu(X), X), strict=True)
    )
    assert str(found) == str(expected)


def test_functions_that_work_on_rows_take_them_from_the_gpu(gpu):
    features, labels = fake_gpu.OnGpu(X.astype(np.float32)), fake_gpu.OnGpu(LABELS)
    net = network([fnn.Dense(3, "relu"), fnn.Dense(3)], backend="cuda", dtype="float32")
    assert max(fnn.check_gradients(net, features, labels).values()) < 1e-6
    assert len(fnn.cures(net, features, labels, seconds=0.05, progress=False)) > 0


def test_rows_of_an_array_on_the_gpu(gpu, monkeypatch):
    monkeypatch.setattr("fastnn._kernels.numba_cuda.driver.gpu_arrays._BLOCK_BYTES", 100)
    array = GpuArray(fake_gpu.OnGpu(X), "X")
    rows = np.random.default_rng(0).permutation(40)[:13]
    for index in (rows, slice(0, 2), slice(None), np.arange(0)):
        np.testing.assert_array_equal(array[index], X[index])
    np.testing.assert_array_equal(array.to_host(), X)
    assert (len(array), array.shape, array.ndim, array.dtype, array.nbytes) == (
        40,
        (40, 4),
        2,
        np.float64,
        X.nbytes,
    )


SPOILT = X.copy()
SPOILT[31, 1] = np.nan
MISTAKES = [
    (
        fake_gpu.OnGpu(X.astype(np.float32)),
        TypeError,
        "X is of float32 on the GPU",
        "network is of float64",
        "X.astype('float64')",
    ),
    (fake_gpu.OnGpu(X[:, :3]), ValueError, "X has 3 columns, but the network takes 4"),
    (fake_gpu.OnGpu(X[:, 0]), ValueError, "X is 1-D"),
    (fake_gpu.OnGpu(X[:0]), ValueError, "X is empty"),
    (
        fake_gpu.OnGpu(X, strides=(8, 320)),
        ValueError,
        "X cannot be read where it lies on the GPU",
        "C-contiguous",
    ),
    (fake_gpu.OnGpu(SPOILT), ValueError, "X is nan at row 31, column 1"),
]


@pytest.mark.parametrize(
    ("given", "error", "parts"), [(given, error, parts) for given, error, *parts in MISTAKES]
)
def test_mistakes_in_features_on_the_gpu(gpu, given, error, parts):
    net = noisy(backend="cuda")
    for use in (
        lambda: net.fit(given, LABELS),
        lambda: net.predict(given),
        lambda: net.evaluate(given, LABELS),
    ):
        with raises(error, *parts):
            use()


def test_mistakes_in_targets_on_the_gpu(gpu):
    net = noisy(backend="cuda")
    with raises(ValueError, "y is 3 at row 0"):
        net.fit(X, fake_gpu.OnGpu(np.full(40, 3)))
    with raises(ValueError, "sample_weight is -1.0 at row 0"):
        net.fit(X, LABELS, sample_weight=fake_gpu.OnGpu(np.full(40, -1.0)))


def test_engines_of_the_cpu_do_not_read_the_gpu():
    for name, use in (("X", lambda a: noisy().predict(a)), ("y", lambda a: noisy().fit(X, a))):
        with raises(TypeError, f"{name} lies on a GPU (OnGpu)", 'backend="cuda"', f"{name}.cpu()"):
            use(fake_gpu.OnGpu(X))


def test_what_is_on_a_gpu():
    assert validate.is_on_gpu(fake_gpu.OnGpu(X))
    for thing in (X, [1], (1,), {}, None, 3, "text", np.float32(1)):
        assert not validate.is_on_gpu(thing)


def test_tensors_of_the_cpu_are_not_on_a_gpu():
    torch = pytest.importorskip("torch")
    for tensor in (torch.zeros(3), torch.zeros(3, requires_grad=True)):
        assert not validate.is_on_gpu(tensor)


# --- precision ------------------------------------------------------------------------------------


@pytest.fixture
def cublaslt_available(monkeypatch):
    monkeypatch.setattr(cublaslt, "unavailable_reason", lambda: None)


def test_precision_is_part_of_the_network(gpu, cublaslt_available, tmp_path):
    net = fnn.mlp([4, 5, 3], backend="cuda", precision="tf32")
    assert net.precision == net.program.precision == "tf32"
    assert "precision='tf32'" in repr(net)
    assert "precision" not in repr(fnn.mlp([4, 3]))
    net.save(tmp_path / "m")
    for same in (fnn.load(tmp_path / "m", backend="cuda"), net.copy()):
        assert same.precision == "tf32"
    for other in (
        fnn.load(tmp_path / "m"),
        fnn.load(tmp_path / "m", backend="numpy"),
        net.copy(backend="numpy"),
        net.copy("float64"),
    ):
        assert other.precision == "float32"
    assert fnn.load(tmp_path / "m", "cuda", precision="bf16").precision == "bf16"
    assert net.copy(precision="float32").precision == "float32"
    np.testing.assert_array_equal(
        fnn.load(tmp_path / "m", "numpy").parameters["0.weight"], net.parameters["0.weight"]
    )


def test_info_tells_the_precision(gpu, cublaslt_available, tmp_path, capsys):
    for precision in ("tf32", "float32"):
        fnn.mlp([4, 3], backend="cuda", precision=precision).save(tmp_path / "m")
        assert main(["info", str(tmp_path / "m")]) == 0
        assert ("precision     tf32 on backend cuda" in capsys.readouterr().out) == (
            precision == "tf32"
        )


def test_precision_that_cannot_be_had(gpu, cublaslt_available, tmp_path):
    for options in ({"backend": "numpy"}, {"backend": "cuda", "dtype": "float64"}, {}):
        with raises(ValueError, 'precision \'tf32\' is for backend "cuda" and dtype "float32"'):
            fnn.mlp([4, 3], precision="tf32", **options)
    with raises(ValueError, "unknown precision 'fp8'", "float32, tf32, bf16"):
        fnn.mlp([4, 3], backend="cuda", precision="fp8")
    with raises(TypeError, "precision must be one of"):
        fnn.mlp([4, 3], precision=16)
    fnn.mlp([4, 3]).save(tmp_path / "m")
    with raises(ValueError, "precision 'bf16' is for backend"):
        fnn.load(tmp_path / "m", precision="bf16")


def test_precision_without_cublaslt(gpu, monkeypatch):
    monkeypatch.setattr(
        cublaslt, "unavailable_reason", lambda: "nvmath-python is not there: pip install it"
    )
    with raises(
        RuntimeError, "precision 'bf16' cannot be had here", "nvmath-python", "pip install"
    ):
        fnn.mlp([4, 3], backend="cuda", precision="bf16")


def test_auto_never_takes_the_gpu(gpu):
    assert engines.choose("auto") != "cuda"
    assert engines.explain().endswith("; cuda runs here where it is named")
    assert fnn.backends()["cuda"] == "available"


# --- products by cuBLASLt ----------------------------------------------------------------------


class Multiplying:
    """The calls of `CublasLt`, on addresses of NumPy's memory."""

    def __init__(self, dtype):
        self._dtype = np.dtype(dtype)

    def _at(self, pointer, *shape):
        nbytes = int(np.prod(shape)) * self._dtype.itemsize
        return np.frombuffer((ctypes.c_char * nbytes).from_address(pointer), self._dtype).reshape(
            shape
        )

    def forward(self, x, w, bias, z, shape, relu, stream):
        assert not relu
        rows, n_in, n_out = shape
        self._at(z, rows, n_out)[:] = self._at(x, rows, n_in) @ self._at(w, n_in, n_out) + (
            self._at(bias, n_out) if bias else 0
        )

    def input_gradient(self, d_z, w, d_x, shape, add, stream):
        rows, n_in, n_out = shape
        product = self._at(d_z, rows, n_out) @ self._at(w, n_in, n_out).T
        self._at(d_x, rows, n_in)[:] = product + (self._at(d_x, rows, n_in) if add else 0)

    def weight_gradient(self, x, d_z, d_w, shape, d_bias, stream):
        assert not d_bias
        rows, n_in, n_out = shape
        self._at(d_w, n_in, n_out)[:] = self._at(x, rows, n_in).T @ self._at(d_z, rows, n_out)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_cublaslt_are_where_the_table_says(dtype, monkeypatch):
    layers = [fnn.Dense(6, bias=False), fnn.Residual([fnn.Dense(6), fnn.Dense(6)]), fnn.Dense(2)]
    program = fnn.Network(layers, 4, "mse", dtype, "numpy").program
    made = []
    monkeypatch.setattr(
        cublaslt_products,
        "CublasLt",
        lambda device, precision: made.append(precision) or Multiplying(dtype),
    )
    rng, capacity, rows = np.random.default_rng(0), 8, 5
    sizes = dict.fromkeys(("theta", "gradient"), program.n_parameters) | dict.fromkeys(
        ("work", "d_work"), capacity * program.n_columns
    )
    memory = {name: rng.normal(size=size).astype(dtype) for name, size in sizes.items()}
    arguments = [
        SimpleNamespace(pointer=memory[name].ctypes.data if name in memory else 0)
        for name in ARRAY_NAMES
    ]
    products = CublasLtProducts(SimpleNamespace(stream=0), program)

    def value(name, offset, width):
        return memory[name][offset * capacity : offset * capacity + rows * width].reshape(
            rows, width
        )

    for index, op in enumerate(program.ops):
        if op["code"] != opcodes.DENSE:
            continue
        weight = memory["theta"][op["weight"] :][: op["n_in"] * op["n_out"]].reshape(
            op["n_in"], op["n_out"]
        )
        bias = memory["theta"][op["bias"] :][: op["n_out"]] if op["bias"] >= 0 else 0
        for adds in (False, True)[: 1 + (op["bias"] >= 0)]:
            products.multiply(Gemm("forward", index, rows, adds), arguments, capacity)
            expected = value("work", op["x"], op["n_in"]) @ weight + (bias if adds else 0)
            np.testing.assert_allclose(value("work", op["y"], op["n_out"]), expected, rtol=1e-5)
        d_z, before = (
            value("d_work", op["y"], op["n_out"]),
            value("d_work", op["x"], op["n_in"]).copy(),
        )
        products.multiply(Gemm("weight", index, rows), arguments, capacity)
        d_weight = memory["gradient"][op["weight"] :][: weight.size].reshape(weight.shape)
        np.testing.assert_allclose(
            d_weight, value("work", op["x"], op["n_in"]).T @ d_z, rtol=1e-4, atol=1e-5
        )
        if op["x_grad"] != opcodes.GRAD_NONE:
            products.multiply(Gemm("input", index, rows), arguments, capacity)
            expected = d_z @ weight.T + (before if op["x_grad"] == opcodes.GRAD_ADD else 0)
            np.testing.assert_allclose(
                value("d_work", op["x"], op["n_in"]), expected, rtol=1e-4, atol=1e-5
            )
    assert opcodes.GRAD_ADD in program.ops["x_grad"]
    assert made == [dtype]
