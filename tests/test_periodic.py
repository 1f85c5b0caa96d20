"""Periodic: as its authors' packages have it, in every engine."""

import numpy as np
import pytest
from builders import INPUTS, OUTPUTS, features, network, relative_error, targets
from network_cases import raises

import fastnn as fnn

each_kind = pytest.mark.parametrize("kind", ["pbld", "plr"])
each_sharing = pytest.mark.parametrize("shared", [False, True])
K, SIZE = 5, 3


def outputs(net, X, kind, n=INPUTS):
    """What one layer in front of an identity gives, by the definition, for n numbers."""
    w, weight, bias = (net.parameters[f"0.{name}"] for name in ("frequency", "weight", "bias"))
    angles = 2 * np.pi * X[:, :n, None] * w
    if kind == "pbld":
        v = np.cos(angles + net.parameters["0.phase"])
    else:
        v = np.concatenate([np.cos(angles), np.sin(angles)], axis=2)
    weight = np.broadcast_to(weight, (n, *weight.shape[-2:]))
    y = np.einsum("rfk,fks->rfs", v, weight) + bias
    if kind == "plr":
        return np.hstack([np.maximum(y, 0).reshape(len(X), -1), X[:, n:]])
    return np.hstack([y.reshape(len(X), -1), X])


def alone(layer, engine, dtype="float64"):
    net = network([layer, fnn.Scale()], "mse", engine, dtype)
    net.parameters["1.scale"] = np.ones(net.outputs)
    return net


@each_kind
@each_sharing
@pytest.mark.parametrize("n", [INPUTS, 2, 1])
def test_it_is_the_definition(engine, kind, shared, n):
    """Columns that are no numbers pass through as they are, negative ones too."""
    X = 3 * features(50)
    net = alone(fnn.Periodic(K, 0.5, SIZE, kind, shared, n), engine)
    np.testing.assert_allclose(net.predict(X), outputs(net, X, kind, n), rtol=1e-9, atol=1e-9)


@each_kind
@each_sharing
@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("threads", [1, 3])
def test_engines_agree_on_gradients(compiled, dtype, kind, shared, rows, threads, use_threads):
    use_threads(threads)
    layers = [fnn.Periodic(K, 0.3, SIZE, kind, shared), fnn.Dense(6, "tanh"), fnn.Dense(OUTPUTS)]
    X, y = features(rows), targets("labels", rows)
    (_, found), (_, expected) = (
        network(layers, "softmax_cross_entropy", name, dtype).gradients(X, y, training=True)
        for name in (compiled, "numpy")
    )
    assert relative_error(found, expected) <= {"float64": 1e-12, "float32": 2e-5}[dtype]


@each_kind
@each_sharing
def test_gradients_are_those_of_central_differences(engine, kind, shared):
    layers = [
        fnn.Dense(5, "tanh"),
        fnn.Periodic(K, 0.5, SIZE, kind, shared, 4),
        fnn.Activation("sigmoid"),
        fnn.Dense(OUTPUTS),
    ]
    net = network(layers, "softmax_cross_entropy", engine)
    assert max(fnn.check_gradients(net, features(9), targets("labels", 9)).values()) < 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_beyond_all_phases(engine, dtype):
    """A number so large that it tells no phase gives the cosine of no turn, as on every engine."""
    X = np.array([[1e30, -1e25, 1e9, 0.5]])
    found, expected = (
        alone(fnn.Periodic(K, 0.5, SIZE, "plr"), name, dtype).predict(X)
        for name in (engine, "numpy")
    )
    assert np.isfinite(found).all()
    unsure = 2 * SIZE  # 10⁹ turns have a phase in float64, in which last bits of it differ
    np.testing.assert_allclose(found[:, :unsure], expected[:, :unsure], rtol=1e-5)
    np.testing.assert_allclose(found[:, -SIZE:], expected[:, -SIZE:], rtol=1e-5, atol=1e-6)


@each_kind
def test_it_learns_a_wave_that_a_line_cannot(engine, kind):
    X = np.linspace(-2, 2, 400)[:, None]
    y = np.sin(6 * X[:, 0])
    net = fnn.Network([fnn.Periodic(16, 1.0, 4, kind), fnn.Dense(1)], 1, "mse", backend=engine)
    net.fit(X, y, 100, 50, fnn.Adam(0.02), progress=False)
    assert net.evaluate(X, y)["r2"] > 0.9


@each_kind
def test_a_saved_network_is_the_same(engine, kind, tmp_path):
    X, y = features(60), targets("values", 60)
    layers = [fnn.Periodic(K, 0.3, SIZE, kind, kind == "plr", 3, 0.5, 0.1), fnn.Dense(OUTPUTS)]
    net = network(layers, "mse", engine)
    net.fit(X, y, progress=False)
    net.save(tmp_path / "m.fastnn")
    again = fnn.load(tmp_path / "m.fastnn", backend=engine)
    assert repr(again) == repr(net)
    np.testing.assert_array_equal(again.predict(X), net.predict(X))


@each_kind
def test_factors_are_those_of_every_array(engine, kind):
    """θ ← θ − η r (g + λ d θ), of biases and phases too."""
    layer = fnn.Periodic(K, 0.3, SIZE, kind, lr_factor=0.1, decay_factor=0.2)
    net = network([layer, fnn.Dense(OUTPUTS)], "mse", engine)
    X, y = features(20), targets("values", 20)
    before, (_, g) = {k: v.copy() for k, v in net.parameters.items()}, net.gradients(X, y)
    net.fit(X, y, 1, 20, fnn.SGD(0.5, weight_decay=0.4), shuffle=False, progress=False)
    for name in before:
        if name.startswith("0."):
            expected = before[name] - 0.5 * 0.1 * (g[name] + 0.4 * 0.2 * before[name])
            np.testing.assert_allclose(net.parameters[name], expected, rtol=1e-10, err_msg=name)


# --- how it starts --------------------------------------------------------------------------------


@each_kind
def test_where_it_starts(kind):
    layers = [fnn.Periodic(2000, 0.2, 2, kind), fnn.Dense(1)]
    net = fnn.Network(layers, INPUTS, "mse", "float64", seed=3)
    waves = 2000 if kind == "pbld" else 4000
    w = net.parameters["0.frequency"]
    assert 0.19 < w.std() < 0.21
    assert len(np.unique(w)) == w.size
    assert (np.abs(w).max() <= 0.6) == (kind == "plr")
    for name, bound in (("phase", np.pi), ("weight", waves**-0.5), ("bias", waves**-0.5)):
        if f"0.{name}" in net.parameters:
            started = np.abs(net.parameters[f"0.{name}"])
            assert bound / 2 < started.max() <= bound
    assert ("0.phase" in net.parameters) == (kind == "pbld")


@each_kind
@each_sharing
def test_its_arrays_and_columns(kind, shared):
    net = fnn.Network([fnn.Periodic(K, 0.1, SIZE, kind, shared, 2), fnn.Dense(1)], INPUTS, "mse")
    waves, maps = (K, 2 * K)[kind == "plr"], () if shared else (2,)
    shapes = {name: array.shape for name, array in net.parameters.items()}
    assert shapes["0.frequency"] == (2, K)
    assert shapes["0.weight"] == (*maps, waves, SIZE)
    assert shapes["0.bias"] == (*maps, SIZE)
    passed = INPUTS if kind == "pbld" else INPUTS - 2
    assert shapes["1.weight"] == (2 * SIZE + passed, 1)


# --- against other packages -----------------------------------------------------------------------


def compare(net, module, copied, X):
    """Outputs, and gradients of Σ y², of a torch module with the layer's numbers, in float32.

    ``copied`` maps our names to its arrays.
    """
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        for name, array in copied.items():
            array.copy_(torch.tensor(net.parameters[f"0.{name}"]).reshape(array.shape))
    y = module(torch.tensor(X, dtype=torch.float32))
    y = y.flatten(1)
    (y**2).sum().backward()
    np.testing.assert_allclose(net.forward(X), y.detach().numpy(), rtol=1e-5, atol=1e-5)
    # A mean of squares over all outputs, whose number is the factor.
    _, gradients = net.gradients(X, np.zeros((len(X), net.outputs)))
    for name, array in copied.items():
        found = gradients[f"0.{name}"] * net.outputs * len(X)
        expected = array.grad.numpy().reshape(found.shape)
        assert relative_error({"": found}, {"": expected}) < 1e-5, name


def waves_of(torch, x, w, p):
    """PBLD's and PLR's waves by their formulas."""
    angles = 2 * np.pi * x[:, :, None] * w
    return (
        torch.cos(angles + p)
        if p is not None
        else torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)
    )


@each_kind
def test_it_is_what_pytorch_computes(engine, kind):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net = alone(fnn.Periodic(16, 0.1, SIZE, kind), engine, "float32")
    arrays = {
        name.removeprefix("0."): torch.nn.Parameter(torch.zeros(array.shape))
        for name, array in net.parameters.items()
        if name.startswith("0.")
    }

    def module(x):
        v = waves_of(torch, x, arrays["frequency"], arrays.get("phase"))
        y = torch.einsum("rfk,fks->rfs", v, arrays["weight"]) + arrays["bias"]
        if kind == "plr":
            return torch.relu(y).flatten(1)
        return torch.cat([y.flatten(1), x], dim=1)

    compare(net, module, arrays, features(300))


@each_sharing
def test_it_is_rtdl_num_embeddings(engine, shared):
    rtdl = pytest.importorskip("rtdl_num_embeddings", reason="rtdl_num_embeddings is not installed")
    module = rtdl.PeriodicEmbeddings(
        INPUTS, 24, n_frequencies=48, frequency_init_scale=0.1, lite=shared
    )
    net = alone(fnn.Periodic(48, 0.1, 24, "plr", shared), engine, "float32")
    linear = module.linear
    copied = {"frequency": module.periodic.weight, "bias": linear.bias}
    if not shared:
        copied["weight"] = linear.weight
        compare(net, module, copied, features(300))
        return
    # `torch.nn.Linear` has its matrix transposed.
    import torch

    with torch.no_grad():
        linear.weight.copy_(torch.tensor(net.parameters["0.weight"].T))
    compare(net, module, copied, features(300))
    _, gradients = net.gradients(features(300), np.zeros((300, net.outputs)))
    found = gradients["0.weight"].T * net.outputs * 300
    assert relative_error({"": found}, {"": linear.weight.grad.numpy()}) < 1e-5


def test_it_is_the_layer_of_pytabkit(engine):
    nn = pytest.importorskip("pytabkit.models.nn_models.nn", reason="pytabkit is not installed")
    base = pytest.importorskip("pytabkit.models.nn_models.base")
    import torch

    net = alone(fnn.Periodic(16, 0.1, 3), engine, "float32")
    shapes = {"frequency": (4, 1, 16), "phase": (4, 1, 16), "weight": (4, 16, 3), "bias": (4, 1, 3)}
    arrays = {name: base.Variable(torch.zeros(shape)) for name, shape in shapes.items()}
    factory = nn.PLREmbeddingsFactory(
        plr_hidden_1=16, plr_hidden_2=4, plr_use_densenet=True, plr_use_cos_bias=True
    )
    layer = nn.PLREmbeddingsLayerCosBias(
        factory,
        weight_1=arrays["frequency"],
        bias_1=arrays["phase"],
        weight_2=arrays["weight"],
        bias_2=arrays["bias"],
        plr_act_name="linear",
        plr_use_densenet=True,
    )
    compare(net, layer.forward_cont, arrays, features(300))


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (dict(frequencies=0), ["frequencies", "at least 1"]),
        (dict(sigma=0), ["sigma", "(0, inf)"]),
        (dict(sigma="0.1"), ["sigma", "number"]),
        (dict(size=0), ["size"]),
        (dict(kind="pbl"), ["kind", "did you mean 'pbld'", "plr"]),
        (dict(shared=1), ["shared", "True or False"]),
        (dict(features=0), ["features"]),
        (dict(lr_factor=-1), ["lr_factor"]),
        (dict(decay_factor=None), ["decay_factor"]),
    ],
)
def test_bad_arguments(arguments, parts):
    with raises((ValueError, TypeError), *parts):
        fnn.Periodic(**arguments)


def test_its_place():
    with raises(ValueError, "layer 0 (Periodic)", "only 4 that are numbers", "features=4"):
        network([fnn.Periodic(features=5), fnn.Dense(OUTPUTS)])
    with raises(ValueError, "layer 1 (Periodic)", "features=3"):
        network([fnn.Embedding([4], 2), fnn.Periodic(), fnn.Dense(OUTPUTS)])
