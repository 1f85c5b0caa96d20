"""JAX: an epoch is one compiled `lax.scan`; parameters and optimiser state are donated to it.

Measured and not used, as they were no faster: gathering the epoch's rows at once, unrolling
the scan, labels by indexing instead of one-hot rows, variances from E[x²] − E[x]², the generators
"rbg" and "unsafe_rbg" (slower than Threefry on CPUs), 16-bit random numbers for dropout, and XLA's
options for oneDNN, XNNPACK and fast mathematics. What helped is in `processes.environment` and
`parameters`.

`processes` sets the number of threads.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from workloads import Workload

from baselines import Unsupported, parameters
from fastnn.nn.layers import Activation, BatchNorm, Dense, Dropout, Residual

ACTIVATIONS = {
    "linear": lambda z: z,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
}


def forward(layers, values, running, x, key=None, prefix=""):
    """Output of the layers and the new running statistics; without a key as in prediction."""
    for i, layer in enumerate(layers):
        name, layer_key = f"{prefix}{i}.", None if key is None else jax.random.fold_in(key, i)
        if isinstance(layer, Dense):
            x = ACTIVATIONS[layer.activation.name](
                x @ values[f"{name}weight"] + values[f"{name}bias"]
            )
        elif isinstance(layer, Activation):
            x = ACTIVATIONS[layer.name](x)
        elif isinstance(layer, BatchNorm):
            x, running = batch_norm(layer, values, running, x, key is not None, name)
        elif isinstance(layer, Dropout):
            x = x if key is None else dropout(x, layer.rate, layer_key)
        elif isinstance(layer, Residual):
            y, running = forward(layer.layers, values, running, x, layer_key, name)
            projection = values.get(f"{name}projection.weight")
            x = ACTIVATIONS[layer.activation.name](
                y + (x if projection is None else x @ projection)
            )
        else:
            raise Unsupported(f"{type(layer).__name__} is not translated to JAX")
    return x, running


def batch_norm(layer, values, running, x, training, name):
    """Normalised x and the new running statistics."""
    if training:
        mean, variance, n = x.mean(axis=0), x.var(axis=0), len(x)
        new = {f"{name}running_mean": mean, f"{name}running_var": variance * n / (n - 1)}
        running = {
            **running,
            **{
                key: (1 - layer.momentum) * running[key] + layer.momentum * value
                for key, value in new.items()
            },
        }
    else:
        mean, variance = running[f"{name}running_mean"], running[f"{name}running_var"]
    factor = values[f"{name}scale"] * jax.lax.rsqrt(variance + layer.epsilon)
    return (x - mean) * factor + values[f"{name}shift"], running


def dropout(x, rate, key):
    """Inverted dropout."""
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def update(optimizer, values, slots, gradient, t):
    """New parameters and slots; t counts from 1."""
    tree_map = jax.tree.map
    if optimizer == "sgd":
        return tree_map(lambda w, g: w - 0.1 * g, values, gradient), slots
    if optimizer == "momentum":
        slots = tree_map(lambda m, g: 0.9 * m + g, slots, gradient)
        return tree_map(lambda w, m: w - 0.01 * m, values, slots), slots
    first = tree_map(lambda m, g: 0.9 * m + 0.1 * g, slots[0], gradient)
    second = tree_map(lambda v, g: 0.999 * v + 0.001 * g * g, slots[1], gradient)
    rate, root = 1e-3 / (1 - 0.9**t), 1 / (1 - 0.999**t)
    return tree_map(
        lambda w, m, v: w - rate * m / (jnp.sqrt(v * root) + 1e-8), values, first, second
    ), (first, second)


def configure_gpu() -> None:
    """Products without TF32, and an error where arrays would lie in the host's memory."""
    jax.config.update("jax_default_matmul_precision", "highest")
    if jax.default_backend() != "gpu":
        raise Unsupported("JAX sees no GPU, or its CUDA plugin is not installed")


class Training:
    """See `baselines`."""

    def __init__(
        self,
        workload: Workload,
        X: np.ndarray,
        y: np.ndarray,
        threads: int,
        seed: int = 0,
        device: str = "cpu",
    ):
        if device == "cuda":
            configure_gpu()
        self.workload, self.rng = workload, np.random.default_rng(seed)
        self.X, self.y = jnp.asarray(X), jnp.asarray(y, jnp.int32)
        values, running = parameters.initial(workload, seed)
        together = parameters.many_small(values)
        values, self.as_dict = (
            ravel_pytree(values)
            if together
            else (jax.tree.map(jnp.asarray, values), lambda values: values)
        )
        zeros = functools.partial(jax.tree.map, jnp.zeros_like, values)
        slots = {"sgd": tuple, "momentum": zeros, "adam": lambda: (zeros(), zeros())}[
            workload.optimizer
        ]()
        self.carry = values, slots, jax.tree.map(jnp.asarray, running), jnp.float32(0)
        self.key, self.order = jax.random.key(seed), self._shuffled()
        self.train = jax.jit(self._train, donate_argnums=0)
        self.logits = jax.jit(
            lambda values, running, X: forward(workload.layers, self.as_dict(values), running, X)[0]
        )

    def _loss(self, values, running, x, y, key):
        z, running = forward(self.workload.layers, self.as_dict(values), running, x, key)
        return -jnp.sum(jax.nn.one_hot(y, z.shape[1]) * jax.nn.log_softmax(z)) / len(x), running

    def _train(self, carry, X, y, order, key):
        def step(carry, rows):
            values, slots, running, t = carry
            # Indices are in bounds: no check of each.
            batch = (
                X.at[rows].get(mode="promise_in_bounds"),
                y.at[rows].get(mode="promise_in_bounds"),
            )
            step_key = jax.random.fold_in(key, t.astype(jnp.int32))
            (loss, running), gradient = jax.value_and_grad(self._loss, has_aux=True)(
                values, running, *batch, step_key
            )
            values, slots = update(self.workload.optimizer, values, slots, gradient, t + 1)
            return (values, slots, running, t + 1), loss

        return jax.lax.scan(step, carry, order)

    def _shuffled(self):
        size, rows = (
            self.workload.batch_size,
            self.rng.permutation(np.arange(len(self.X), dtype=np.int32)),
        )
        return rows[: len(rows) // size * size].reshape(-1, size)

    def epoch(self) -> float:
        """Mean loss of the epoch; samples that fill no mini-batch are left to another epoch."""
        self.carry, losses = self.train(self.carry, self.X, self.y, self.order, self.key)
        self.order = self._shuffled()  # the next epoch's, while this one runs
        return float(np.asarray(jax.block_until_ready((losses, self.carry))[0]).mean())

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Labels."""
        values, _, running, _ = self.carry
        return np.asarray(self.logits(values, running, X)).argmax(axis=1)
