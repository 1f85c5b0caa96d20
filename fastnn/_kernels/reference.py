"""The reference: the executable definition of every activation, loss, link and optimiser.

These formulas share no arithmetic with the compiled engines, so that one mistake cannot agree with
itself. Where speed and clarity pull apart they take clarity: derivatives are functions of z, and
updates work on whole arrays. `reference_engine` is the engine that runs them.
"""

import math

import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.contract import Samples
from fastnn._kernels.tables import ACTIVATIONS, LOSSES, OPTIMIZERS

# --- activations: f(z), then f′(z) ----------------------------------------------------------------

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _sigmoid(z, alpha=None):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))


def _softplus(z, alpha=None):
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def _normal_cdf(z):
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return (0.5 * (1 + erf(z / math.sqrt(2)))).astype(z.dtype)


def _normal_pdf(z):
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _elu(z, alpha):
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))


def _d_elu(z, alpha):
    return np.where(z > 0, 1, alpha * np.exp(np.minimum(z, 0)))


def _selu(z, alpha):
    return _SELU_SCALE * _elu(z, _SELU_ALPHA)


def _d_selu(z, alpha):
    return _SELU_SCALE * _d_elu(z, _SELU_ALPHA)


def _d_mish(z, alpha):
    t = np.tanh(_softplus(z))
    return t + z * (1 - t * t) * _sigmoid(z)


_ACTIVATIONS = {
    "linear": (lambda z, a: z, lambda z, a: np.ones_like(z)),
    "sigmoid": (_sigmoid, lambda z, a: _sigmoid(z) * _sigmoid(-z)),
    "tanh": (lambda z, a: np.tanh(z), lambda z, a: 1 - np.tanh(z) ** 2),
    "relu": (lambda z, a: np.maximum(z, 0), lambda z, a: np.where(z > 0, 1, 0)),
    "leaky_relu": (lambda z, a: np.where(z > 0, z, a * z), lambda z, a: np.where(z > 0, 1, a)),
    "elu": (_elu, _d_elu),
    "selu": (_selu, _d_selu),
    "gelu": (lambda z, a: z * _normal_cdf(z), lambda z, a: _normal_cdf(z) + z * _normal_pdf(z)),
    "silu": (lambda z, a: z * _sigmoid(z), lambda z, a: _sigmoid(z) * (1 + z * _sigmoid(-z))),
    "mish": (lambda z, a: z * np.tanh(_softplus(z)), _d_mish),
    "softplus": (_softplus, lambda z, a: _sigmoid(z)),
    "softsign": (lambda z, a: z / (1 + np.abs(z)), lambda z, a: 1 / (1 + np.abs(z)) ** 2),
    "hard_sigmoid": (
        lambda z, a: np.clip(z / 6 + 0.5, 0, 1),
        lambda z, a: np.where(np.abs(z) < 3, 1 / 6, 0),
    ),
    "hard_tanh": (
        lambda z, a: np.clip(z, -1, 1),
        lambda z, a: np.where(np.abs(z) < 1, 1, 0),
    ),
}


# --- losses: per-sample loss and ∂loss/∂z, from raw outputs z (n, k) and targets t (n, k) ---------


def _softmax_cross_entropy(z, t, c):
    t = (1 - c) * t + c / z.shape[1]
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    # A probability of 0 costs nothing, not 0 · ∞, but an output that is not finite shows.
    terms = np.where((t > 0) | ~np.isfinite(z), t * log_p, 0)
    return -terms.sum(axis=1), np.exp(log_p) * t.sum(axis=1, keepdims=True) - t


def _binary_cross_entropy(z, t, c):
    t = (1 - c) * t + c / 2
    return (_softplus(z) - t * z).sum(axis=1), _sigmoid(z) - t


def _mse(z, t, c):
    return ((z - t) ** 2).mean(axis=1), 2 * (z - t) / z.shape[1]


def _quadratic(z, t, c):
    return 0.5 * ((z - t) ** 2).sum(axis=1), z - t


def _mae(z, t, c):
    return np.abs(z - t).mean(axis=1), np.sign(z - t) / z.shape[1]


def _huber(z, t, c):
    d = z - t
    per_output = np.where(np.abs(d) < c, 0.5 * d * d, c * (np.abs(d) - 0.5 * c))
    return per_output.mean(axis=1), np.clip(d, -c, c) / z.shape[1]


def _poisson(z, t, c):
    rate = np.exp(z)
    per_output = np.where(np.isinf(rate), rate, rate - t * z)  # not ∞ − ∞
    return per_output.mean(axis=1), (rate - t) / z.shape[1]


def _quantile(z, t, c):
    e = z - t
    slope = np.where(e > 0, 1 - c, np.where(e < 0, -c, e))  # at the kink 0
    return (e * slope).mean(axis=1), slope / z.shape[1]


_LOSSES = {
    "softmax_cross_entropy": _softmax_cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
    "mse": _mse,
    "quadratic": _quadratic,
    "mae": _mae,
    "huber": _huber,
    "poisson": _poisson,
    "quantile": _quantile,
}


def _softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


_LINKS = {
    opcodes.IDENTITY: lambda z: z,
    opcodes.SOFTMAX: _softmax,
    opcodes.LOGISTIC: _sigmoid,
    opcodes.EXPONENTIAL: np.exp,
    opcodes.SORTED: lambda z: np.sort(z, axis=1),
}


def link(loss: np.ndarray, z: np.ndarray) -> np.ndarray:
    """What ``predict`` makes of raw outputs z (n, k)."""
    # A rate of exp(1000) is infinite, as it should be.
    with np.errstate(over="ignore", invalid="ignore"):
        return _LINKS[int(loss["link"][0])](z)


def predictions(loss: np.ndarray, z: np.ndarray) -> np.ndarray:
    """What ``predict`` gives (n, k): the mean of the members' linked outputs z (n, members · k)."""
    by_member = z.reshape(len(z), int(loss["members"][0]), -1)
    rows = link(loss, by_member.reshape(-1, by_member.shape[2])).reshape(by_member.shape)
    return rows[:, 0] if rows.shape[1] == 1 else rows.mean(axis=1)


def target_values(samples: Samples, n_outputs: int) -> np.ndarray:
    """Targets as values (n, n_outputs): labels become one-hot rows."""
    if samples.values is not None:
        return samples.values
    one_hot = np.zeros((len(samples), n_outputs), samples.X.dtype)
    one_hot[np.arange(len(samples)), samples.labels] = 1
    return one_hot


def per_sample_loss(
    loss: np.ndarray, z: np.ndarray, t: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Loss (n,) and its gradient (n, k) with respect to raw outputs z (n, k); targets t (n, k).

    Of an ensemble z is (n, members · k), and the loss the mean over members. Overflow gives
    infinity, which the caller reports as divergence, so NumPy's warning is off.
    """
    constants = loss["constant"]
    constant = constants.astype(z.dtype) if len(constants) > 1 else float(constants[0])
    with np.errstate(over="ignore", invalid="ignore"):
        of_members, members = z.reshape(-1, t.shape[1]), z.shape[1] // t.shape[1]
        of_each = np.repeat(t, members, axis=0) if members > 1 else t
        losses, d_z = _LOSS_OF[int(loss["code"][0])](of_members, of_each, constant)
        if members == 1:
            return losses, d_z
        return losses.reshape(-1, members).mean(axis=1), d_z.reshape(z.shape) / members


def is_correct(loss_code: int, z: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Whether each sample is classified correctly, as booleans (n,).

    The largest output must be the target's. A single output z must exceed 0, or ½ without a sigmoid
    link, where t exceeds ½.
    """
    if z.shape[1] > 1 or loss_code == opcodes.SOFTMAX_CROSS_ENTROPY:
        return z.argmax(axis=1) == t.argmax(axis=1)
    boundary = 0.0 if loss_code == opcodes.BINARY_CROSS_ENTROPY else 0.5
    return (z[:, 0] > boundary) == (t[:, 0] > 0.5)


def is_correct_on_average(loss: np.ndarray, z: np.ndarray, t: np.ndarray) -> np.ndarray:
    """`is_correct` for outputs z (n, members · k): an ensemble answers with the mean prediction."""
    code = int(loss["code"][0])
    if z.shape[1] == t.shape[1]:
        return is_correct(code, z, t)
    p = predictions(loss, z)
    return is_correct(code, p, t) if p.shape[1] > 1 else (p[:, 0] > 0.5) == (t[:, 0] > 0.5)


# --- optimisers: w and the slots m and v change in place ---------------------------------


def _sgd(w, g, slots, eta, optimizer, t, mu_product):
    if optimizer["beta1"] == 0:
        w -= eta * g
        return
    m = slots[0]
    m[:] = optimizer["beta1"] * m + g
    w -= eta * (g + optimizer["beta1"] * m if optimizer["nesterov"] else m)


def _adagrad(w, g, slots, eta, optimizer, t, mu_product):
    s = slots[0]
    s += g * g
    w -= eta * g / np.sqrt(s + optimizer["epsilon"])


def _adadelta(w, g, slots, eta, optimizer, t, mu_product):
    (s, d), rho, eps = slots, optimizer["beta1"], optimizer["epsilon"]
    s[:] = rho * s + (1 - rho) * g * g
    delta = np.sqrt(d + eps) / np.sqrt(s + eps) * g
    d[:] = rho * d + (1 - rho) * delta * delta
    w -= eta * delta


def _rmsprop(w, g, slots, eta, optimizer, t, mu_product):
    s = slots[0]
    s[:] = optimizer["beta1"] * s + (1 - optimizer["beta1"]) * g * g
    w -= eta * g / (np.sqrt(s) + optimizer["epsilon"])


def _moments(g, slots, optimizer, t):
    """Adam's first moment, and √v̂ + ε."""
    m, v = slots
    m[:] = optimizer["beta1"] * m + (1 - optimizer["beta1"]) * g
    v[:] = optimizer["beta2"] * v + (1 - optimizer["beta2"]) * g * g
    return m, np.sqrt(v / (1 - optimizer["beta2"] ** t)) + optimizer["epsilon"]


def _adam(w, g, slots, eta, optimizer, t, mu_product):
    m, root = _moments(g, slots, optimizer, t)
    w -= eta * (m / (1 - optimizer["beta1"] ** t)) / root


def _nadam(w, g, slots, eta, optimizer, t, mu_product):
    mu, mu_next = (
        optimizer["beta1"] * (1 - 0.5 * 0.96 ** (k * optimizer["momentum_decay"]))
        for k in (t, t + 1)
    )
    mu_product[0] *= mu
    m, root = _moments(g, slots, optimizer, t)
    w -= (
        eta
        * ((1 - mu) / (1 - mu_product[0]) * g + mu_next / (1 - mu_product[0] * mu_next) * m)
        / root
    )


_UPDATES = {
    "sgd": _sgd,
    "adagrad": _adagrad,
    "adadelta": _adadelta,
    "rmsprop": _rmsprop,
    "adam": _adam,
    "adamw": _adam,
    "nadam": _nadam,
}


# --- by code --------------------------------------------------------------------------------------

ACTIVATION_OF = {row.code: _ACTIVATIONS[name] for name, row in ACTIVATIONS.items()}
UPDATE_OF = {row.code: _UPDATES[name] for name, row in OPTIMIZERS.items()}
_LOSS_OF = {row.code: _LOSSES[name] for name, row in LOSSES.items()}
