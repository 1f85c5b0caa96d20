"""Why gradients vanish and explode, on a chain of single neurons.

Source: Nielsen, Neural Networks and Deep Learning, chapter 5: "Unstable gradients in deep neural
nets", its two problems, and "Unstable gradients in more complex networks".

Expected: ∂C/∂b₁ = σ′(z₁) w₂ σ′(z₂) w₃ σ′(z₃) w₄ σ′(z₄) ∂C/∂a₄ (equation 121) and
δˡ = Σ′(zˡ)(wˡ⁺¹)ᵀ … Σ′(zᴸ)∇ₐC (equation 124) equal backpropagation to rounding. σ′ is at most ¼,
at 0. With |w| < 1 each layer learns at least 4 times slower than the next, and b₁ 16 times slower
than b₃; with w = 100 and every z = 0 each factor is 25. |w σ′(wa + b)| ≥ 1 needs |w| ≥ 4, and the
interval of such a is at most (2/|w|) ln(|w|(1 + √(1 − 4/|w|))/2 − 1) wide (equation 123), which is
largest, 0.45, at |w| = 6.9. A neuron can act as the identity, w₂ σ(w₁ x + b) ≈ x on [0, 1]:
x = ½ + Δ and a small w₁ give w₂ = 4/w₁, b = −w₁/2, an error of about w₁²/96, and a constant
½ − w₂/2 that the bias of the next neuron takes up. Without that constant w₁ cannot be small, and
the least error is 0.056 (our own minimax fit).
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import brentq, minimize, minimize_scalar

from fastnn.experiments.book import BOOK
from fastnn.experiments.data import Data
from fastnn.experiments.result import Check, ExperimentResult, at_least, at_most, close
from fastnn.network import Network
from fastnn.nn.layers import Dense

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DEPTH, _CHAINS = 4, 200
_WIDTHS = (8, 7, 6, 5, 3)  # of the network for the matrix form
_ROUNDING = 1e-12  # in float64, over a few products
_EXPLODING = 100.0
_X = np.linspace(0.0, 1.0, 1001)


def run(quick: bool, data: Data) -> ExperimentResult:
    """All of it is the same in quick mode."""
    rng = np.random.default_rng(0)
    chains = [_chain(rng.uniform(-1, 1, _DEPTH), rng.normal(size=_DEPTH)) for _ in range(_CHAINS)]
    speeds = np.array([np.abs(_backpropagated(chain)) for chain in chains])
    exploding = np.abs(_backpropagated(_exploding_chain()))
    z = np.linspace(-6, 6, 241)
    slopes = np.array([_slope(point) for point in z])
    widest: Any = minimize_scalar(
        lambda w: -_width(w), bounds=(4.0, 20.0), method="bounded", options={"xatol": 1e-9}
    )
    weights = np.geomspace(0.05, 4, 30)
    errors = np.array([_identity_error(w) for w in weights])
    least = _least_identity_error()
    checks = [
        *_formula_checks(chains, rng),
        *_slope_checks(z, slopes),
        *_speed_checks(speeds, exploding),
        *_width_checks(slopes.max(), widest),
        *_identity_checks(least),
    ]
    series = {
        "vanishing": np.median(speeds, axis=0),
        "exploding": exploding,
        "z": z,
        "slope": slopes,
        "weight": (w := np.linspace(4.0, 20.0, 161)),
        "width": np.array([_width(each) for each in w]),
        "widest": {"weight": widest.x, "width": -widest.fun},
        "identity": {"weight": weights, "error": errors},
        "identity_without_constant": {
            "w1": least.x[0],
            "w2": least.x[1],
            "b": least.x[2],
            "error": least.fun,
        },
    }
    return ExperimentResult(checks, series)


def draw(result: ExperimentResult) -> "Figure":
    """Learning speed along the chain, σ′, the interval's width, and the identity neuron."""
    from fastnn import plotting

    series = result.series
    figure, axes = plotting.new_axes(2, 2)
    layers = np.arange(1, _DEPTH + 1)
    speeds = {
        "|w| < 1, median of random chains": series["vanishing"],
        "w = 100, every z = 0": series["exploding"],
    }
    plotting.lines(speeds, layers, "layer", "|∂C/∂b|", log=True, ax=axes[0, 0])
    axes[0, 0].set(title="Learning speed along the chain", xticks=layers)
    plotting.lines({"σ′": series["slope"]}, series["z"], "z", "σ′(z)", ax=axes[0, 1])
    axes[0, 1].axhline(0.25, color="black", linewidth=0.8, linestyle=":")
    axes[0, 1].set(title="The sigmoid's derivative is at most ¼")
    plotting.lines(
        {"width": series["width"]},
        series["weight"],
        "|w|",
        "width of the interval of a",
        ax=axes[1, 0],
    )
    widest = series["widest"]
    axes[1, 0].plot(widest["weight"], widest["width"], "o", color=plotting.COLOURS[1])
    label = f"{widest['width']:.3f} at |w| = {widest['weight']:.2f}"
    axes[1, 0].annotate(
        label, (widest["weight"], widest["width"]), (0, 8), textcoords="offset points", ha="center"
    )
    axes[1, 0].set(title="Inputs for which |w σ′(wa + b)| ≥ 1", ylim=(0, 0.52))
    identity = series["identity"]
    errors = {"largest error on [0, 1]": identity["error"], "w₁²/96": identity["weight"] ** 2 / 96}
    plotting.lines(
        errors,
        identity["weight"],
        "w₁",
        "|(4/w₁)(σ(w₁x − w₁/2) − ½) + ½ − x|",
        log=True,
        ax=axes[1, 1],
    )
    axes[1, 1].set(title="The identity neuron", xscale="log")
    return figure


# --- the checks -----------------------------------------------------------------------------------


def _formula_checks(chains, rng) -> list[Check]:
    return [
        at_most(
            "product formula: largest relative error",
            f"{BOOK}, equation 121",
            _ROUNDING,
            max(map(_product_error, chains)),
        ),
        at_most(
            "matrix form: largest relative error",
            f"{BOOK}, equation 124",
            _ROUNDING,
            _matrix_error(rng),
        ),
    ]


def _slope_checks(z, slopes) -> list[Check]:
    source = f"{BOOK}, figure of σ′"
    return [
        close("largest σ′", source, 0.25, slopes.max(), absolute=1e-12),
        close("z of the largest σ′", source, 0.0, z[slopes.argmax()], absolute=1e-12),
    ]


def _speed_checks(speeds, exploding) -> list[Check]:
    """Learning speeds of the random chains (chains, layers), and w σ′ along the exploding one."""
    factors = exploding[:-1] / exploding[1:]
    return [
        at_least(
            "vanishing: least fall from a layer to the one before",
            f"{BOOK}, |w σ′| < 1/4",
            4.0,
            _falls(speeds, 1),
        ),
        at_least("vanishing: least fall from b₃ to b₁", f"{BOOK}, 1/16", 16.0, _falls(speeds, 2)),
        *(
            close(
                f"exploding: factor w σ′ of layer {layer}",
                f"{BOOK}, 100 · 1/4",
                25.0,
                factor,
                relative=1e-9,
            )
            for layer, factor in enumerate(factors, 2)
        ),
    ]


def _width_checks(largest_slope, widest) -> list[Check]:
    source = f"{BOOK}, problem 1"
    return [
        close("least |w| with |w σ′| ≥ 1", source, 4.0, 1.0 / largest_slope, absolute=1e-9),
        close("|w| of the widest interval", source, 6.9, widest.x, absolute=0.05),
        close("width of the widest interval", source, 0.45, -widest.fun, absolute=0.005),
        close(
            "the same width by root finding",
            f"{BOOK}, equation 123",
            -widest.fun,
            _measured_width(widest.x),
            relative=1e-6,
        ),
    ]


def _identity_checks(least) -> list[Check]:
    return [
        close(
            "identity neuron: error at w₁ = 0.1",
            "Taylor series, w₁²/96",
            0.1**2 / 96,
            _identity_error(0.1),
            relative=0.01,
        ),
        close(
            "identity neuron without a constant: least error",
            "minimax fit",
            0.056,
            least.fun,
            absolute=0.0005,
        ),
    ]


# --- chains ---------------------------------------------------------------------------------------


def _sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def _sigmoid_slope(z):
    return _sigmoid(z) * (1.0 - _sigmoid(z))


def _network(weights, biases):
    """Sigmoid layers with given weights (n_in, n_out) and the cost ½‖a − y‖²."""
    layers = [
        Dense(len(b), activation="sigmoid", init=w, bias_init=b)
        for w, b in zip(weights, biases, strict=True)
    ]
    return Network(layers, inputs=len(weights[0]), loss="quadratic", dtype="float64")


def _chain(weights, biases):
    return _network([np.array([[w]]) for w in weights], [np.array([b]) for b in biases])


def _exploding_chain():
    """w = 100 everywhere and z = 0 everywhere, so that every activation but the input 1 is ½."""
    inputs = np.array([1.0, *[0.5] * (_DEPTH - 1)])
    return _chain(np.full(_DEPTH, _EXPLODING), -_EXPLODING * inputs)


def _backpropagated(chain):
    """∂C/∂b of each layer for the input 1 and the target 0."""
    _, gradients = chain.gradients([[1.0]], [[0.0]])
    return np.array([gradients[f"{layer}.bias"][0] for layer in range(_DEPTH)])


def _product_error(chain):
    """Relative error of equation 121 and its like for the other layers."""
    a, slopes, weights = 1.0, [], []
    for layer in range(_DEPTH):
        weights.append(chain.parameters[f"{layer}.weight"][0, 0])
        z = weights[-1] * a + chain.parameters[f"{layer}.bias"][0]
        a = _sigmoid(z)
        slopes.append(_sigmoid_slope(z))
    # ∂C/∂a₄ = a₄ − 0
    products = [
        np.prod(slopes[layer:]) * np.prod(weights[layer + 1 :]) * a for layer in range(_DEPTH)
    ]
    return np.max(np.abs(_backpropagated(chain) / products - 1.0))


def _falls(speeds, layers):
    """The least ratio of a layer's speed to that of the layer so many before it.

    ``speeds`` has shape (chains, layers).
    """
    return (speeds[:, layers:] / speeds[:, :-layers]).min()


def _slope(z):
    """σ′(z) as the engine has it: ∂C/∂b of one neuron whose target makes ∂C/∂a = 1."""
    neuron = _chain([0.0], [z])
    return neuron.gradients([[0.0]], neuron.predict([[0.0]]) - 1.0)[1]["0.bias"][0]


def _matrix_error(rng):
    """Relative error of equation 124, for the mean over some samples."""
    weights = [rng.normal(size=shape) for shape in pairwise(_WIDTHS)]
    biases = [rng.normal(size=n) for n in _WIDTHS[1:]]
    X, Y = rng.normal(size=(20, _WIDTHS[0])), rng.random((20, _WIDTHS[-1]))
    _, gradients = _network(weights, biases).gradients(X, Y)
    deltas = [np.zeros(n) for n in _WIDTHS[1:]]
    for x, y in zip(X, Y, strict=True):
        activations = x
        slopes = []
        for w, b in zip(weights, biases, strict=True):
            z = activations @ w + b
            activations = _sigmoid(z)
            slopes.append(np.diag(_sigmoid_slope(z)))
        for layer in range(len(weights)):
            product = slopes[layer]
            for w, slope in zip(weights[layer + 1 :], slopes[layer + 1 :], strict=True):
                product = product @ w @ slope  # w is (n_in, n_out): the source's transposed
            deltas[layer] += product @ (activations - y) / len(X)
    return max(
        np.abs(gradients[f"{i}.bias"] - delta).max() / np.abs(delta).max()
        for i, delta in enumerate(deltas)
    )


# --- the problems ---------------------------------------------------------------------------------


def _width(w):
    """Equation 123."""
    return 2.0 / w * np.log(w * (1.0 + np.sqrt(1.0 - 4.0 / w)) / 2.0 - 1.0)


def _measured_width(w):
    """How wide the set of a with w σ′(wa) ≥ 1 is, found without the formula."""
    half: Any = brentq(lambda a: w * _sigmoid_slope(w * a) - 1.0, 0.0, 1.0)
    return 2.0 * half


def _identity_error(w1):
    w2 = 4.0 / w1
    return np.abs(w2 * _sigmoid(w1 * (_X - 0.5)) + 0.5 - 0.5 * w2 - _X).max()


def _least_identity_error():
    """w₁, w₂ and b that bring max |w₂ σ(w₁x + b) − x| down furthest."""
    return minimize(
        lambda p: np.abs(p[1] * _sigmoid(p[0] * _X + p[2]) - _X).max(),
        [4.0, 1.0, -2.0],
        method="Nelder-Mead",
        options={"maxiter": 4000, "xatol": 1e-8, "fatol": 1e-10},
    )
