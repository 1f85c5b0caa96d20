"""The NumPy engine: the executable definition of every operation.

It reads the same op table as the compiled engines and shares no arithmetic with them. Penalties,
clipping and updates are whole arrays at a time. Notation: x input, z before and y after the
activation, d_z = ∂C/∂z and so on, C the mean loss of the mini-batch.
"""

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from fastnn._kernels import opcodes, philox
from fastnn._kernels import reference_members as members
from fastnn._kernels import reference_periodic as periodic
from fastnn._kernels.contract import Chunk, Evaluation, Program, Samples, State, StepLog
from fastnn._kernels.reference import (
    ACTIVATION_OF,
    UPDATE_OF,
    is_correct_on_average,
    per_sample_loss,
    predictions,
    target_values,
)
from fastnn._kernels.reference_numbers import (
    noise,
    norm,
    normalise,
    record,
    sum_of_squares,
)
from fastnn._kernels.reference_piecewise import bin_of, encoding_of
from fastnn._kernels.tables import ACTIVATIONS, LOSSES, OPTIMIZERS

_SATURATION = {row.code: row.saturation for row in ACTIVATIONS.values() if row.saturation}
_CLASSIFIES = {row.code for row in LOSSES.values() if row.classifies}
_DECOUPLED = {row.code for row in OPTIMIZERS.values() if row.decoupled_decay}
_TINY = np.finfo(float).tiny
_BLOCK_ROWS = 4096  # of a data set that is evaluated: outputs and targets of a block stay small


class ReferenceEngine:
    """The NumPy engine; see `fastnn._kernels.contract.Engine` for what each method does."""

    def __init__(self, program: Program):
        self.program = program
        self._ops = [record(op) for op in program.ops]
        # For each number of θ the factors of the optimiser's weight decay and learning rate.
        self._decay = np.zeros(program.n_parameters, program.dtype)
        rates = np.ones(program.n_parameters, program.dtype)
        for op in self._ops:
            if op["weight"] >= 0:
                self._weight(self._decay, op)[...] = op["weight_decay"]
                self._weight(rates, op)[...] = op["weight_rate"]
            if op["bias"] >= 0:
                self._bias(rates, op)[...] = op["bias_rate"]
                self._bias(self._decay, op)[...] = op["bias_decay"]
        self._rates = rates if (rates != 1).any() else 1.0
        self._classifies = int(program.loss["code"][0]) in _CLASSIFIES

    def train_steps(self, state: State, samples: Samples, chunk: Chunk) -> StepLog:
        losses, weights, correct, statistics = [], [], [], []
        recorded, decays = chunk.recorded(state.step), chunk.weight_decays()
        for k, eta in enumerate(chunk.rates):
            batch = samples.take(chunk.order[chunk.bounds[k] : chunk.bounds[k + 1]])
            measured = self._no_statistics(1 if k in recorded else 0)
            loss, weight, correct_weight, gradient = self._step(state, batch, True, True, measured)
            losses.append(loss)
            weights.append(weight)
            correct.append(correct_weight)
            if not np.isfinite(loss):
                break
            before = state.theta.copy()
            with np.errstate(over="ignore", invalid="ignore"):
                self._update(state, gradient, eta, decays[k], chunk.optimizer)
                self._measure_update(state.theta - before, measured)
                self._constrain(state)
            statistics.extend(measured)
            state.step += 1
            state.optimizer_step += 1
        return StepLog(
            np.array(losses),
            np.array(weights),
            np.array(correct),
            np.array(statistics or self._no_statistics(0)),
            bool(np.isfinite(losses[-1])),
        )

    def gradients(
        self, state: State, samples: Samples, training: bool, measure: bool = False
    ) -> tuple[StepLog, np.ndarray]:
        statistics = self._no_statistics(1 if measure else 0)
        loss, weight, correct_weight, gradient = self._step(
            state, samples, training, False, statistics
        )
        finite = bool(np.isfinite(loss))
        return StepLog(
            np.array([loss]),
            np.array([weight]),
            np.array([correct_weight]),
            statistics[: 1 if finite else 0],
            finite,
        ), gradient if finite else np.full_like(gradient, np.nan)

    def forward(self, state: State, X: np.ndarray, linked: bool = False) -> tuple[np.ndarray, bool]:
        with np.errstate(over="ignore", invalid="ignore"):
            z = self._forward(state, X, training=False, learning=False)[self.program.output][0]
        finite = np.isfinite(X).all(axis=1, keepdims=True)
        z = np.where(finite, z, np.nan)
        return predictions(self.program.loss, z) if linked else z, bool(finite.all())

    def evaluate(self, state: State, samples: Samples) -> Evaluation:
        n, loss, correct_weight = len(samples), 0.0, 0.0
        outputs = np.empty((n, self.program.n_outputs), self.program.dtype)
        w = np.ones(n) if samples.weights is None else samples.weights.astype(np.float64)
        for first in range(0, n, _BLOCK_ROWS):
            rows = np.arange(first, min(first + _BLOCK_ROWS, n))
            block = samples.take(rows)
            z, t = self.forward(state, block.X)[0], target_values(block, self.program.n_outputs)
            outputs[rows] = predictions(self.program.loss, z) if self.program.members > 1 else z
            losses, _ = per_sample_loss(self.program.loss, z, t)
            loss += float(w[rows] @ np.where(w[rows] > 0, losses, 0).astype(np.float64))
            if self._classifies:
                correct_weight += float(w[rows] @ is_correct_on_average(self.program.loss, z, t))
        return Evaluation(outputs, loss / max(w.sum(), _TINY), float(w.sum()), correct_weight)

    def input_gradients(self, state: State, X: np.ndarray, d_output: np.ndarray) -> np.ndarray:
        """Σ_k d_k ∂z_k/∂x (n, inputs) of each row, for factors d (n, outputs) of raw outputs z."""
        d_values = {self.program.output: d_output}
        with np.errstate(over="ignore", invalid="ignore"):
            values = self._forward(state, X, training=False, learning=False)
            self._backward(state, values, d_values, False, self._no_statistics(0))
        return d_values[opcodes.INPUT]

    def is_finite(self, X: Any) -> bool:
        return bool(np.isfinite(X).all())

    def resident(self, state: State, *samples: Samples) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _step(self, state, batch, training, learning, statistics):
        """Mean loss, Σ w, Σ w of correct samples, and the gradient vector of one mini-batch.

        Fills ``statistics`` where it has a record.
        """
        program = self.program
        w = np.ones(len(batch), program.dtype) if batch.weights is None else batch.weights
        share = (w / max(w.sum(), np.finfo(program.dtype).tiny))[:, None]
        with np.errstate(over="ignore", invalid="ignore"):
            values = self._forward(state, batch.X, training, learning)
            z, t = values[program.output][0], target_values(batch, program.n_outputs)
            losses, d_z = per_sample_loss(program.loss, z, t)
            # A product of a weight of 0 and what overflowed would be NaN.
            losses, d_z = np.where(share[:, 0] > 0, losses, 0), np.where(share > 0, d_z, 0)
            d_values = {program.output: share * d_z}
            gradient = self._backward(state, values, d_values, training, statistics)
            self._measure_values(values, statistics)
            loss = float((share[:, 0] * losses).sum())
        correct = float(w @ is_correct_on_average(program.loss, z, t)) if self._classifies else 0.0
        return loss, float(w.sum()), correct, gradient

    def _forward(self, state, X, training, learning):
        """Column offset of each value → (value, z, dropout mask or 1, extra)."""
        values: dict[int, tuple] = {opcodes.INPUT: (X, X, 1, None)}
        for op in self._ops:
            x, extra = values[op["x"]][0], None
            if op["code"] == opcodes.DENSE:
                z = op["factor"] * (members.rows_of(x, op) @ self._weight(state.theta, op))
                if op["bias"] >= 0:
                    z = z + self._bias(state.theta, op)
                z = z.reshape(len(x), op["n_out"])
            elif op["code"] == opcodes.BATCH_NORM:
                z, extra = self._batch_norm(state, op, x, training, learning)
            elif op["code"] == opcodes.LAYER_NORM:
                extra = normalise(
                    x, x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True), op["epsilon"]
                )
                z = self._scale_and_shift(state, op, extra[0])
            elif op["code"] == opcodes.ADD:
                z = x + values[op["skip"]][0]
            elif op["code"] == opcodes.NOISE:
                z = x + (noise(state, op, x.shape) * op["std"]).astype(x.dtype) if training else x
            elif op["code"] == opcodes.SCALE:
                z = x * self._weight(state.theta, op)
            elif op["code"] == opcodes.EMBEDDING:
                extra = self._table_rows(state, op, x)
                rows = self._weight(state.theta, op)[extra].reshape(len(x), -1)
                z = np.hstack([x[:, : op["n_in"] - op["codes"]], rows])
            elif op["code"] == opcodes.PIECEWISE:
                extra = encoding_of(self._edges(state, op), x[:, : op["features"]])
                z = np.einsum("rft,fts->rfs", extra, self._weight(state.theta, op))
                z = (z + self._bias(state.theta, op)).reshape(len(x), -1)
                z = np.hstack([z, x[:, op["features"] :]])
            elif op["code"] == opcodes.PERIODIC:
                frequency = self._weight(state.theta, op)
                phase = self._bias(state.theta, op) if op["bias"] >= 0 else None
                z, extra = periodic.waves(op, x, frequency, phase)
            elif op["code"] == opcodes.FEATURE_DENSE:
                weight, bias = self._weight(state.theta, op), self._bias(state.theta, op)
                z = periodic.feature_dense(op, x, weight, bias)
            elif op["code"] == opcodes.PARAMETRIC:
                extra = ACTIVATION_OF[op["inner"]][0](x, op["alpha"]).astype(x.dtype) - x
                z = x + self._weight(state.theta, op) * extra
            elif op["code"] in (opcodes.MEMBER_SCALE, opcodes.HEADS):
                z = members.forward(op, x, self._weight(state.theta, op))
                z = z + self._bias(state.theta, op) if op["bias"] >= 0 else z
            else:  # ELEMENTWISE
                z = x
            f = ACTIVATION_OF[op["activation"]][0]
            mask = self._dropout_mask(state, op, z) if training and op["rate"] > 0 else 1
            values[op["y"]] = ((f(z, op["alpha"]) * mask).astype(z.dtype), z, mask, extra)
        return values

    def _backward(self, state, values, d_values, training, statistics):
        """The gradient vector; ``d_values``, which has the output's, gets that of each value."""
        gradient = np.zeros(self.program.n_parameters, self.program.dtype)
        for i, op in reversed(list(enumerate(self._ops))):
            _, z, mask, extra = values[op["y"]]
            x, f_prime = values[op["x"]][0], ACTIVATION_OF[op["activation"]][1]
            d_z = (d_values[op["y"]] * mask * f_prime(z, op["alpha"])).astype(z.dtype)
            d_x = d_z
            if op["code"] == opcodes.DENSE:
                w = self._weight(state.theta, op)
                d_rows = d_z.reshape(-1, op["member_out"])
                d_x = op["factor"] * (d_rows @ w.T).reshape(x.shape)
                d_w = op["factor"] * (members.rows_of(x, op).T @ d_rows)
                self._weight(gradient, op)[...] = d_w + op["l2"] * w + op["l1"] * np.sign(w)
                if op["bias"] >= 0:
                    self._bias(gradient, op)[...] = d_rows.sum(axis=0)
            elif op["code"] in (opcodes.MEMBER_SCALE, opcodes.HEADS):
                w = self._weight(state.theta, op)
                d_x, self._weight(gradient, op)[...] = members.backward(op, x, w, d_z)
                if op["bias"] >= 0:
                    self._bias(gradient, op)[...] = d_z.sum(axis=0)
            elif op["code"] in (opcodes.BATCH_NORM, opcodes.LAYER_NORM):
                d_x = self._norm_backward(state, op, d_z, extra, gradient, training)
            elif op["code"] == opcodes.SCALE:
                self._weight(gradient, op)[...] = (d_z * x).sum(axis=0)
                d_x = d_z * self._weight(state.theta, op)
            elif op["code"] == opcodes.EMBEDDING:
                d_rows = d_z[:, op["n_in"] - op["codes"] :].reshape(*extra.shape, op["size"])
                np.add.at(self._weight(gradient, op), extra, d_rows)
                d_x = np.zeros_like(x)  # codes have no derivative
                d_x[:, : op["n_in"] - op["codes"]] = d_z[:, : op["n_in"] - op["codes"]]
            elif op["code"] == opcodes.PIECEWISE:
                d_x = self._piecewise_backward(state, op, x, d_z, extra, gradient)
            elif op["code"] == opcodes.PERIODIC:
                frequency = self._weight(state.theta, op)
                d_w, d_phase, d_x = periodic.waves_backward(op, x, d_z, frequency, extra)
                self._weight(gradient, op)[...] = d_w
                if op["bias"] >= 0:
                    self._bias(gradient, op)[...] = d_phase
            elif op["code"] == opcodes.FEATURE_DENSE:
                w = self._weight(state.theta, op)
                d_w, d_b, d_x, d_z = periodic.feature_dense_backward(op, x, z, d_z, w)
                self._weight(gradient, op)[...], self._bias(gradient, op)[...] = d_w, d_b
            elif op["code"] == opcodes.PARAMETRIC:
                self._weight(gradient, op)[...] = (d_z * extra).sum(axis=0)
                f_prime = ACTIVATION_OF[op["inner"]][1](x, op["alpha"]).astype(x.dtype)
                d_x = d_z * (1 + self._weight(state.theta, op) * (f_prime - 1))
            if op["weight"] >= 0:
                statistics[:, i, opcodes.DELTA] = sum_of_squares(d_z.sum(axis=0, dtype=np.float64))
                statistics[:, i, opcodes.GRADIENT] = sum_of_squares(self._weight(gradient, op))
                statistics[:, i, opcodes.WEIGHT] = sum_of_squares(self._weight(state.theta, op))
            if op["code"] == opcodes.ADD:
                d_values[op["skip"]] = d_z + d_values.get(op["skip"], 0)
            d_values[op["x"]] = d_x + d_values.get(op["x"], 0)
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
        extra = normalise(x, mean, var, op["epsilon"])
        return self._scale_and_shift(state, op, extra[0]), extra

    def _scale_and_shift(self, state, op, normalised):
        scale, shift = (
            self._array(state.theta, op[name], op["n_out"]) for name in ("weight", "bias")
        )
        return normalised * scale + shift

    def _norm_backward(self, state, op, d_z, extra, gradient, training):
        """d_x of BATCH_NORM (over axis 0) and LAYER_NORM (over axis 1).

        It is the part of d_x̂ that changes neither mean nor variance.
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

    def _dropout_mask(self, state, op, z):
        rate = op["rate"]
        if op["schedule"] >= 0:
            rate = self.program.schedules[op["schedule"]](state.optimizer_step)
        bits = philox.random_bits(
            state.seed, opcodes.STREAM_MASK + op["stream"], state.step, z.shape[1], rows=len(z)
        )
        kept = bits >= philox.dropout_threshold(rate)
        return kept.astype(z.dtype) / z.dtype.type(1 - rate)

    def _table_rows(self, state, op, x):
        """For each code of x (n, codes) its row of the tables, which lie one after the other.

        What is no code of its table counts as 0.
        """
        first = self._array(state.buffers, op["state"], op["codes"] + 1)
        code = x[:, op["n_in"] - op["codes"] :]
        known = (code > 0) & (code < np.diff(first))
        with np.errstate(invalid="ignore"):  # buffers may hold anything
            rows = first[:-1].astype(np.int64) + np.where(known, code, 0).astype(np.int64)
        return np.clip(rows, 0, op["rows"] - 1)

    def _edges(self, state, op):
        """Number of bins (features,), and their edges (features, bins + 1)."""
        table = self._array(state.buffers, op["state"], op["features"], op["bins"] + 2)
        with np.errstate(invalid="ignore"):  # buffers may hold anything
            return np.clip(table[:, 0].astype(np.int64), 0, op["bins"]), table[:, 1:]

    def _piecewise_backward(self, state, op, x, d_z, encoding, gradient):
        (counts, edges), features = self._edges(state, op), op["features"]
        d = d_z[:, : features * op["size"]].reshape(len(x), features, op["size"])
        self._weight(gradient, op)[...] = np.einsum("rft,rfs->fts", encoding, d)
        self._bias(gradient, op)[...] = d.sum(axis=0)
        w = self._weight(state.theta, op)
        d_numbers = np.einsum("rfs,fs->rf", d, w[:, -1])
        for f, count in enumerate(counts):
            if count > 0:
                k = bin_of(edges[f], count, x[:, f])
                slope = w[f, k] / (edges[f, k + 1] - edges[f, k])[:, None]
                d_numbers[:, f] += (d[:, f] * slope).sum(axis=1)
        return np.hstack([d_numbers, d_z[:, features * op["size"] :]])

    def _update(self, state, gradient, eta, decay, optimizer):
        optimizer, eta, decay = record(optimizer[0]), float(eta) * self._rates, float(decay)
        if optimizer["clip_value"] > 0:
            np.clip(gradient, -optimizer["clip_value"], optimizer["clip_value"], out=gradient)
        if optimizer["clip_norm"] > 0:
            length = float(norm(gradient))
            gradient *= min(1.0, optimizer["clip_norm"] / length) if length > 0 else 1.0
        if optimizer["code"] in _DECOUPLED:
            state.theta *= 1 - eta * decay * self._decay
        else:
            gradient = gradient + decay * self._decay * state.theta
        UPDATE_OF[optimizer["code"]](
            state.theta,
            gradient,
            state.slots,
            eta,
            optimizer,
            state.optimizer_step + 1,
            state.mu_product,
        )

    def _constrain(self, state):
        for op in self._ops:
            if op["max_norm"] > 0:
                w = self._weight(state.theta, op)
                norms = norm(w, axis=0)
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
            statistics[:, i, opcodes.SQUARES] = sum_of_squares(y)
            if op["activation"] == opcodes.RELU:
                statistics[:, i, opcodes.DEAD] = (y <= 0).all(axis=0).sum()
            elif op["activation"] in _SATURATION:
                low, high = _SATURATION[op["activation"]]
                f = ACTIVATION_OF[op["activation"]][0](z, op["alpha"])
                statistics[:, i, opcodes.SATURATED] = (((f < low) | (f > high)) & (mask != 0)).sum()

    def _measure_update(self, change, statistics):
        for i, op in enumerate(self._ops):
            if op["weight"] >= 0:
                statistics[:, i, opcodes.UPDATE] = sum_of_squares(self._weight(change, op))

    def _weight(self, vector, op):
        """The operation's weight, tables, scale or α in a vector like θ."""
        shape = {
            opcodes.DENSE: (op["member_in"], op["member_out"]),
            opcodes.MEMBER_SCALE: (op["members"], op["member_out"]),
            opcodes.HEADS: (op["members"], op["member_in"], op["member_out"]),
            opcodes.EMBEDDING: (op["rows"], op["size"]),
            opcodes.PIECEWISE: (op["features"], op["bins"] + 1, op["size"]),
            opcodes.PERIODIC: (op["features"], op["frequencies"]),
            opcodes.FEATURE_DENSE: (_maps(op), op["parts"] * op["frequencies"], op["size"]),
        }.get(op["code"], (op["n_out"],))
        return self._array(vector, op["weight"], *shape)

    def _bias(self, vector, op):
        """The operation's bias or shift in a vector like θ."""
        shape = {
            opcodes.DENSE: (op["member_out"],),
            opcodes.PIECEWISE: (op["features"], op["size"]),
            opcodes.PERIODIC: (op["features"], op["frequencies"]),
            opcodes.FEATURE_DENSE: (_maps(op), op["size"]),
        }.get(op["code"], (op["n_out"],))
        return self._array(vector, op["bias"], *shape)

    @staticmethod
    def _array(vector, offset, *shape):
        return vector[offset : offset + int(np.prod(shape))].reshape(shape)


def _maps(op):
    """How many maps FEATURE_DENSE has."""
    return 1 if op["shared"] else op["features"]
