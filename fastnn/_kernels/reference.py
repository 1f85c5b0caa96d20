"""The NumPy engine: the executable definition of every operation, loss and optimiser.

It reads the same op table as the compiled engines and shares no arithmetic with them, so that one
mistake cannot agree with itself. Where speed and clarity pull apart it takes clarity: derivatives
are written as functions of z, and the penalties, clipping and updates are whole arrays at a time.
Notation: x input, z before and y after the activation, d_z = ∂C/∂z and so on, C the mean loss of
the mini-batch.
"""

import contextlib
import math
from contextlib import AbstractContextManager

import numpy as np

from fastnn._kernels import opcodes, philox
from fastnn._kernels.contract import Chunk, Program, Samples, State, StepLog

# --- activations: f(z), then f′(z) ----------------------------------------------------------------

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _sigmoid(z, alpha=None):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))


def _softplus(z, alpha=None):
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def _normal_cdf(z):
    return (0.5 * (1 + np.vectorize(math.erf, otypes=[np.float64])(z / math.sqrt(2)))).astype(
        z.dtype
    )


def _normal_pdf(z):
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _elu(z, alpha):
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))


def _d_elu(z, alpha):
    return np.where(z > 0, 1, alpha * np.exp(np.minimum(z, 0)))


def _d_mish(z, alpha):
    t = np.tanh(_softplus(z))
    return t + z * (1 - t * t) * _sigmoid(z)


_ACTIVATIONS = {
    opcodes.LINEAR: (lambda z, a: z, lambda z, a: np.ones_like(z)),
    opcodes.SIGMOID: (_sigmoid, lambda z, a: _sigmoid(z) * _sigmoid(-z)),
    opcodes.TANH: (lambda z, a: np.tanh(z), lambda z, a: 1 - np.tanh(z) ** 2),
    opcodes.RELU: (lambda z, a: np.maximum(z, 0), lambda z, a: np.where(z > 0, 1, 0)),
    opcodes.LEAKY_RELU: (
        lambda z, a: np.where(z > 0, z, a * z),
        lambda z, a: np.where(z > 0, 1, a),
    ),
    opcodes.ELU: (_elu, _d_elu),
    opcodes.SELU: (
        lambda z, a: _SELU_SCALE * _elu(z, _SELU_ALPHA),
        lambda z, a: _SELU_SCALE * _d_elu(z, _SELU_ALPHA),
    ),
    opcodes.GELU: (
        lambda z, a: z * _normal_cdf(z),
        lambda z, a: _normal_cdf(z) + z * _normal_pdf(z),
    ),
    opcodes.SILU: (lambda z, a: z * _sigmoid(z), lambda z, a: _sigmoid(z) * (1 + z * _sigmoid(-z))),
    opcodes.MISH: (lambda z, a: z * np.tanh(_softplus(z)), _d_mish),
    opcodes.SOFTPLUS: (_softplus, lambda z, a: _sigmoid(z)),
    opcodes.SOFTSIGN: (lambda z, a: z / (1 + np.abs(z)), lambda z, a: 1 / (1 + np.abs(z)) ** 2),
    opcodes.HARD_SIGMOID: (
        lambda z, a: np.clip(z / 6 + 0.5, 0, 1),
        lambda z, a: np.where(np.abs(z) < 3, 1 / 6, 0),
    ),
    opcodes.HARD_TANH: (lambda z, a: np.clip(z, -1, 1), lambda z, a: np.where(np.abs(z) < 1, 1, 0)),
}


# --- losses: per-sample loss and ∂loss/∂z, from raw outputs z (n, k) and targets t (n, k) ---------


def _softmax_cross_entropy(z, t, loss):
    t = (1 - loss["label_smoothing"]) * t + loss["label_smoothing"] / z.shape[1]
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(t * log_p).sum(axis=1), np.exp(log_p) * t.sum(axis=1, keepdims=True) - t


def _binary_cross_entropy(z, t, loss):
    t = (1 - loss["label_smoothing"]) * t + loss["label_smoothing"] / 2
    return (_softplus(z) - t * z).sum(axis=1), _sigmoid(z) - t


def _mse(z, t, loss):
    return ((z - t) ** 2).mean(axis=1), 2 * (z - t) / z.shape[1]


def _quadratic(z, t, loss):
    return 0.5 * ((z - t) ** 2).sum(axis=1), z - t


def _mae(z, t, loss):
    return np.abs(z - t).mean(axis=1), np.sign(z - t) / z.shape[1]


def _huber(z, t, loss):
    d, delta = z - t, loss["delta"]
    per_output = np.where(np.abs(d) < delta, 0.5 * d * d, delta * (np.abs(d) - 0.5 * delta))
    return per_output.mean(axis=1), np.clip(d, -delta, delta) / z.shape[1]


def _poisson(z, t, loss):
    return (np.exp(z) - t * z).mean(axis=1), (np.exp(z) - t) / z.shape[1]


_LOSSES = {
    opcodes.SOFTMAX_CROSS_ENTROPY: _softmax_cross_entropy,
    opcodes.BINARY_CROSS_ENTROPY: _binary_cross_entropy,
    opcodes.MSE: _mse,
    opcodes.QUADRATIC: _quadratic,
    opcodes.MAE: _mae,
    opcodes.HUBER: _huber,
    opcodes.POISSON: _poisson,
}


def _softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


_LINKS = {
    opcodes.IDENTITY: lambda z: z,
    opcodes.SOFTMAX: _softmax,
    opcodes.LOGISTIC: _sigmoid,
    opcodes.EXPONENTIAL: np.exp,
}


def link(loss: np.ndarray, z: np.ndarray) -> np.ndarray:
    """What ``predict`` makes of raw outputs z (n, k)."""
    # a rate of exp(1000) is infinite, as it should be
    with np.errstate(over="ignore", invalid="ignore"):
        return _LINKS[int(loss["link"][0])](z)


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
    """Loss (n,) and its gradient (n, k) with respect to the raw output z (n, k), for targets t (n,
    k).

    Overflow gives infinity, which the caller reports as divergence, so NumPy's warning is switched
    off.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return _LOSSES[int(loss["code"][0])](z, t, _record(loss[0]))


def classified_rightly(loss_code: int, z: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Boolean (n,): the largest output is the target's; for a single output z > 0 (or, without a
    sigmoid link, z > ½) agrees with t > ½.
    """
    if z.shape[1] > 1 or loss_code == opcodes.SOFTMAX_CROSS_ENTROPY:
        return z.argmax(axis=1) == t.argmax(axis=1)
    boundary = 0.0 if loss_code == opcodes.BINARY_CROSS_ENTROPY else 0.5
    return (z[:, 0] > boundary) == (t[:, 0] > 0.5)


# --- optimisers: w, slots m and v, and the rate η change in place ---------------------------------


def _sgd(w, g, slots, eta, rule, t, products):
    if rule["beta1"] == 0:
        w -= eta * g
        return
    m = slots[0]
    m[:] = rule["beta1"] * m + g
    w -= eta * (g + rule["beta1"] * m if rule["nesterov"] else m)


def _adagrad(w, g, slots, eta, rule, t, products):
    s = slots[0]
    s += g * g
    w -= eta * g / np.sqrt(s + rule["epsilon"])


def _adadelta(w, g, slots, eta, rule, t, products):
    (s, d), rho, eps = slots, rule["beta1"], rule["epsilon"]
    s[:] = rho * s + (1 - rho) * g * g
    delta = np.sqrt(d + eps) / np.sqrt(s + eps) * g
    d[:] = rho * d + (1 - rho) * delta * delta
    w -= eta * delta


def _rmsprop(w, g, slots, eta, rule, t, products):
    s = slots[0]
    s[:] = rule["beta1"] * s + (1 - rule["beta1"]) * g * g
    w -= eta * g / (np.sqrt(s) + rule["epsilon"])


def _moments(g, slots, rule, t):
    """Adam's first moment, and √v̂ + ε."""
    m, v = slots
    m[:] = rule["beta1"] * m + (1 - rule["beta1"]) * g
    v[:] = rule["beta2"] * v + (1 - rule["beta2"]) * g * g
    return m, np.sqrt(v / (1 - rule["beta2"] ** t)) + rule["epsilon"]


def _adam(w, g, slots, eta, rule, t, products):
    m, root = _moments(g, slots, rule, t)
    w -= eta * (m / (1 - rule["beta1"] ** t)) / root


def _nadam(w, g, slots, eta, rule, t, products):
    mu, mu_next = (
        rule["beta1"] * (1 - 0.5 * 0.96 ** (k * rule["momentum_decay"])) for k in (t, t + 1)
    )
    products[0] *= mu
    m, root = _moments(g, slots, rule, t)
    w -= eta * ((1 - mu) / (1 - products[0]) * g + mu_next / (1 - products[0] * mu_next) * m) / root


_UPDATES = {
    opcodes.SGD: _sgd,
    opcodes.ADAGRAD: _adagrad,
    opcodes.ADADELTA: _adadelta,
    opcodes.RMSPROP: _rmsprop,
    opcodes.ADAM: _adam,
    opcodes.ADAMW: _adam,
    opcodes.NADAM: _nadam,
}


# --- the engine -----------------------------------------------------------------------------------


class ReferenceEngine:
    """The NumPy engine; see `fastnn._kernels.contract.Engine` for what each method does."""

    def __init__(self, program: Program):
        self.program = program
        self._ops = [_record(op) for op in program.ops]
        self._decay = np.zeros(program.n_parameters, program.dtype)  # 1 where θ holds a weight
        for array in program.parameters:
            array.view(self._decay)[...] = array.kind == "weight"

    def train_steps(self, state: State, samples: Samples, chunk: Chunk) -> StepLog:
        losses, weights, hits, statistics, recorded = [], [], [], [], chunk.recorded(state.step)
        for k, eta in enumerate(chunk.rates):
            batch = samples.take(chunk.order[chunk.bounds[k] : chunk.bounds[k + 1]])
            measured = self._no_statistics(1 if k in recorded else 0)
            loss, weight, hit, gradient = self._step(state, batch, True, True, measured)
            losses.append(loss), weights.append(weight), hits.append(hit)
            if not np.isfinite(loss):
                break
            before = state.theta.copy()
            with np.errstate(over="ignore", invalid="ignore"):
                self._update(state, gradient, eta, chunk.rule)
                self._measure_update(state.theta - before, measured)
                self._constrain(state)
            statistics.extend(measured)
            state.step += 1
            state.optimizer_step += 1
        log = (np.array(figures) for figures in (losses, weights, hits))
        return StepLog(
            *log, np.array(statistics or self._no_statistics(0)), bool(np.isfinite(losses[-1]))
        )

    def gradients(
        self, state: State, samples: Samples, training: bool, measure: bool = False
    ) -> tuple[StepLog, np.ndarray]:
        statistics = self._no_statistics(1 if measure else 0)
        loss, weight, hit, gradient = self._step(state, samples, training, False, statistics)
        finite = bool(np.isfinite(loss))
        return StepLog(
            np.array([loss]),
            np.array([weight]),
            np.array([hit]),
            statistics[: 1 if finite else 0],
            finite,
        ), gradient

    def forward(self, state: State, X: np.ndarray, linked: bool = False) -> tuple[np.ndarray, bool]:
        with np.errstate(invalid="ignore"):
            z = self._forward(state, X, training=False, learning=False)[self.program.output][0]
        finite = np.isfinite(X).all(axis=1, keepdims=True)
        z = np.where(finite, z, np.nan)
        return link(self.program.loss, z) if linked else z, bool(finite.all())

    def resident(self, state: State, *samples: Samples) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _step(self, state, batch, training, learning, statistics):
        """Mean loss, Σw, weighted hits and the gradient vector of one mini-batch; fills
        ``statistics`` where it has a record.
        """
        program, loss_code = self.program, int(self.program.loss["code"][0])
        w = np.ones(len(batch), program.dtype) if batch.weights is None else batch.weights
        share = (w / max(w.sum(), np.finfo(program.dtype).tiny))[:, None]
        with np.errstate(over="ignore", invalid="ignore"):
            values = self._forward(state, batch.X, training, learning)
            z, t = values[program.output][0], target_values(batch, program.n_outputs)
            losses, d_z = per_sample_loss(program.loss, z, t)
            gradient = self._backward(state, values, share * d_z, training, statistics)
            self._measure_values(values, statistics)
        hits = (
            float(w @ classified_rightly(loss_code, z, t))
            if loss_code in opcodes.CLASSIFIES
            else 0.0
        )
        return float((share[:, 0] * losses).sum()), float(w.sum()), hits, gradient

    def _forward(self, state, X, training, learning):
        """Column offset → (value, z before the epilogue, dropout mask or 1, extra) of every
        value.
        """
        values = {opcodes.INPUT: (X, X, 1, None)}
        for op in self._ops:
            x, extra = values[op["x"]][0], None
            if op["code"] == opcodes.DENSE:
                z = x @ self._array(state.theta, op["weight"], op["n_in"], op["n_out"])
                if op["bias"] >= 0:
                    z = z + self._array(state.theta, op["bias"], op["n_out"])
            elif op["code"] == opcodes.BATCH_NORM:
                z, extra = self._batch_norm(state, op, x, training, learning)
            elif op["code"] == opcodes.LAYER_NORM:
                extra = _normalise(
                    x, x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True), op["epsilon"]
                )
                z = self._scale_and_shift(state, op, extra[0])
            elif op["code"] == opcodes.ADD:
                z = x + values[op["skip"]][0]
            elif op["code"] == opcodes.NOISE:
                z = x + (_noise(state, op, x.shape) * op["std"]).astype(x.dtype) if training else x
            else:  # ELEMENTWISE
                z = x
            f = _ACTIVATIONS[op["activation"]][0]
            mask = _dropout_mask(state, op, z) if training and op["rate"] > 0 else 1
            values[op["y"]] = ((f(z, op["alpha"]) * mask).astype(z.dtype), z, mask, extra)
        return values

    def _backward(self, state, values, d_output, training, statistics):
        gradient = np.zeros(self.program.n_parameters, self.program.dtype)
        d_values = {self.program.output: d_output}
        for i, op in reversed(list(enumerate(self._ops))):
            if op["y"] not in d_values:
                continue  # nothing to learn before this operation
            _, z, mask, extra = values[op["y"]]
            x, f_prime = values[op["x"]][0], _ACTIVATIONS[op["activation"]][1]
            d_z = (d_values[op["y"]] * mask * f_prime(z, op["alpha"])).astype(z.dtype)
            d_x = d_z
            if op["code"] == opcodes.DENSE:
                w = self._array(state.theta, op["weight"], op["n_in"], op["n_out"])
                d_x = d_z @ w.T
                d_w = x.T @ d_z + op["l2"] * w + op["l1"] * np.sign(w)
                self._array(gradient, op["weight"], op["n_in"], op["n_out"])[...] = d_w
                if op["bias"] >= 0:
                    self._array(gradient, op["bias"], op["n_out"])[...] = d_z.sum(axis=0)
            elif op["code"] in (opcodes.BATCH_NORM, opcodes.LAYER_NORM):
                d_x = self._norm_backward(state, op, d_z, extra, gradient, training)
            if op["weight"] >= 0:
                statistics[:, i, opcodes.DELTA] = _sum_of_squares(d_z.sum(axis=0, dtype=np.float64))
                statistics[:, i, opcodes.GRADIENT] = _sum_of_squares(self._weight_of(op, gradient))
                statistics[:, i, opcodes.WEIGHT] = _sum_of_squares(self._weight_of(op, state.theta))
            for value, flag, d in (("skip", "skip_grad", d_z), ("x", "x_grad", d_x)):
                if op[flag] != opcodes.GRAD_NONE:
                    d_values[op[value]] = d + d_values.get(op[value], 0)
        return gradient

    def _batch_norm(self, state, op, x, training, learning):
        n, m = op["n_out"], len(x)
        running_mean = self._array(state.buffers, op["state"], n)
        running_var = self._array(state.buffers, op["state"] + n, n)
        mean, var = (x.mean(axis=0), x.var(axis=0)) if training else (running_mean, running_var)
        if learning and m > 1:
            momentum = op["momentum"]
            running_mean[:] = (1 - momentum) * running_mean + momentum * mean
            running_var[:] = (1 - momentum) * running_var + momentum * var * (m / (m - 1))
        extra = _normalise(x, mean, var, op["epsilon"])
        return self._scale_and_shift(state, op, extra[0]), extra

    def _scale_and_shift(self, state, op, normalised):
        scale, shift = (
            self._array(state.theta, op[name], op["n_out"]) for name in ("weight", "bias")
        )
        return normalised * scale + shift

    def _norm_backward(self, state, op, d_z, extra, gradient, training):
        """d_x of BATCH_NORM (over axis 0) and LAYER_NORM (over axis 1): the part of d_x̂ that
        changes neither mean nor variance.
        """
        normalised, inverse_std = extra
        self._array(gradient, op["weight"], op["n_out"])[...] = (d_z * normalised).sum(axis=0)
        self._array(gradient, op["bias"], op["n_out"])[...] = d_z.sum(axis=0)
        d = d_z * self._array(state.theta, op["weight"], op["n_out"])
        axis = 0 if op["code"] == opcodes.BATCH_NORM else 1
        if axis == 0 and not training:
            return inverse_std * d
        mean_d, mean_dx = (
            d.mean(axis=axis, keepdims=True),
            (d * normalised).mean(axis=axis, keepdims=True),
        )
        return inverse_std * (d - mean_d - normalised * mean_dx)

    def _update(self, state, gradient, eta, rule):
        rule = _record(rule[0])
        if rule["clip_value"] > 0:
            np.clip(gradient, -rule["clip_value"], rule["clip_value"], out=gradient)
        if rule["clip_norm"] > 0:
            norm = float(np.sqrt((gradient.astype(np.float64) ** 2).sum()))
            gradient *= min(1.0, rule["clip_norm"] / norm) if norm > 0 else 1.0
        if rule["code"] == opcodes.ADAMW:
            state.theta *= 1 - float(eta) * rule["weight_decay"] * self._decay
        else:
            gradient = gradient + rule["weight_decay"] * self._decay * state.theta
        _UPDATES[rule["code"]](
            state.theta,
            gradient,
            state.slots,
            float(eta),
            rule,
            state.optimizer_step + 1,
            state.products,
        )

    def _constrain(self, state):
        for op in self._ops:
            if op["max_norm"] > 0:
                w = self._array(state.theta, op["weight"], op["n_in"], op["n_out"])
                norms = np.sqrt((w.astype(np.float64) ** 2).sum(axis=0))
                w *= np.minimum(
                    1.0, op["max_norm"] / np.maximum(norms, np.finfo(float).tiny)
                ).astype(w.dtype)

    # --- statistics: arrays (1, operations, N_STATISTICS), or (0, …) where none are wanted --------

    def _no_statistics(self, records):
        return np.zeros((records, len(self._ops), opcodes.N_STATISTICS))

    def _measure_values(self, values, statistics):
        for i, op in enumerate(self._ops):
            y, z, mask, _ = values[op["y"]]
            statistics[:, i, opcodes.VALUES] = y.sum(dtype=np.float64)
            statistics[:, i, opcodes.SQUARES] = _sum_of_squares(y)
            if op["activation"] == opcodes.RELU:
                statistics[:, i, opcodes.DEAD] = (y <= 0).all(axis=0).sum()
            elif op["activation"] in opcodes.SATURATES:
                low, high = opcodes.SATURATES[op["activation"]]
                f = _ACTIVATIONS[op["activation"]][0](z, op["alpha"])
                statistics[:, i, opcodes.SATURATED] = (((f < low) | (f > high)) & (mask != 0)).sum()

    def _measure_update(self, change, statistics):
        for i, op in enumerate(self._ops):
            if op["weight"] >= 0:
                statistics[:, i, opcodes.UPDATE] = _sum_of_squares(self._weight_of(op, change))

    def _weight_of(self, op, vector):
        """The operation's weight or scale in a vector like θ."""
        n = op["n_in"] * op["n_out"] if op["code"] == opcodes.DENSE else op["n_out"]
        return self._array(vector, op["weight"], n)

    @staticmethod
    def _array(vector, offset, *shape):
        return vector[offset : offset + int(np.prod(shape))].reshape(shape)


def _sum_of_squares(values):
    return np.square(values, dtype=np.float64).sum()


def _record(record):
    """A record as a dict of Python numbers, which unlike NumPy's float64 scalars never widen a
    float32 array.
    """
    return dict(zip(record.dtype.names, record.item(), strict=True))


def _normalise(x, mean, var, epsilon):
    inverse_std = 1 / np.sqrt(var + epsilon)
    return (x - mean) * inverse_std, inverse_std


def _dropout_mask(state, op, z):
    bits = philox.random_bits(
        state.seed, opcodes.STREAM_MASK + op["stream"], state.step, z.shape[1], rows=len(z)
    )
    return (bits >= philox.dropout_threshold(op["rate"])).astype(z.dtype) / z.dtype.type(
        1 - op["rate"]
    )


def _noise(state, op, shape):
    """N(0, 1) by Box–Muller: words 0 and 1 of a row's halves give radius and angle."""
    rows, n = shape
    bits = philox.random_bits(
        state.seed, opcodes.STREAM_NOISE + op["stream"], state.step, 2 * n, rows=rows
    )
    u = (bits.astype(np.float64) + 0.5) * 2.0**-32
    return np.sqrt(-2 * np.log(u[:, :n])) * np.cos(2 * np.pi * u[:, n:])
