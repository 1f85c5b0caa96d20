"""`Ensemble`: networks of one task whose predictions are averaged, in one file."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import serialization
from fastnn._kernels import reference
from fastnn._kernels.contract import Evaluation, Samples
from fastnn.metrics import metric_names, scores_of
from fastnn.network import Network
from fastnn.nn.losses import Loss
from fastnn.training.samples import checked_features, checked_samples

_LEAST = 1e-30  # probability that has a logarithm in float32


class Ensemble:
    """Networks of one task, whose predictions are averaged.

    Parameters
    ----------
    networks : sequence of Network
        With the same number of inputs and of outputs, the same loss and dtype.
    metadata : mapping, optional
        Plain data of the user's that is saved with the ensemble.
    companions : mapping of str to Network, optional
        Networks of other tasks that are saved along, such as one of quantiles.

    Attributes
    ----------
    metadata, companions : dict

    Raises
    ------
    ValueError, TypeError
        No network, something else, or one that differs from the first, by its number.

    Examples
    --------
    >>> import numpy as np, fastnn as fnn
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> y = X[:, 0] * X[:, 1]
    >>> nets = [fnn.mlp([4, 16, 1], loss="mse", seed=s, backend="numpy") for s in range(3)]
    >>> for net in nets:
    ...     _ = net.fit(X, y, epochs=3)
    >>> together = fnn.Ensemble(nets)
    >>> len(together), together.predict(X).shape
    (3, (200, 1))
    """

    def __init__(
        self,
        networks: Sequence[Network],
        metadata: Mapping[str, Any] | None = None,
        companions: Mapping[str, Network] | None = None,
    ):
        if isinstance(networks, Network):
            raise TypeError("networks must be a sequence of Network, such as [net], not a Network")
        self._networks: tuple[Network, ...] = tuple(networks)
        if not self._networks:
            raise ValueError("networks must hold at least one Network")
        for k, net in enumerate(self._networks):
            if not isinstance(net, Network):
                raise TypeError(f"networks[{k}] must be a Network, not {type(net).__name__}")
            for name in ("inputs", "outputs", "loss", "dtype"):
                first, own = getattr(self._networks[0], name), getattr(net, name)
                if repr(first) != repr(own):
                    raise ValueError(f"networks[{k}] has {name} {own}, but networks[0] has {first}")
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.companions: dict[str, Network] = dict(companions or {})
        for name, net in self.companions.items():
            if not isinstance(net, Network):
                raise TypeError(f"companions[{name!r}] must be a Network, not {type(net).__name__}")
            if not isinstance(name, str) or not name.isidentifier():
                raise ValueError(
                    f"a companion's name must be one such as 'quantiles', not {name!r}"
                )

    # --- what it is -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._networks)

    def __getitem__(self, k: int) -> Network:
        return self._networks[k]

    def __iter__(self) -> Iterator[Network]:
        return iter(self._networks)

    @property
    def inputs(self) -> int:
        """Features of a sample."""
        return self._networks[0].inputs

    @property
    def outputs(self) -> int:
        """Width of the last layer."""
        return self._networks[0].outputs

    @property
    def loss(self) -> Loss:
        """What each was trained with."""
        return self._networks[0].loss

    @property
    def dtype(self) -> np.dtype:
        """Of parameters and arithmetic."""
        return self._networks[0].dtype

    @property
    def backend(self) -> str:
        """The engine in use."""
        return self._networks[0].backend

    @property
    def n_parameters(self) -> int:
        """Numbers that training learnt, of all networks."""
        return sum(net.n_parameters for net in self._networks)

    def __repr__(self) -> str:
        return f"Ensemble of {len(self)}, {self.n_parameters:,} parameters, of {self[0]!r}"

    # --- using it ---------------------------------------------------------------------------------

    def predict(self, X: Any, spread: bool = False) -> Any:
        """Probabilities (n, classes) or values (n, outputs): the mean over the networks.

        Parameters
        ----------
        X : array-like (n, inputs)
        spread : bool
            Whether to return the standard deviation over the networks, too.

        Returns
        -------
        ndarray, or a pair of them
        """
        mean, squares = self[0].predict(X).astype(np.float64), 0.0
        for k, net in enumerate(self._networks[1:], 2):  # Welford's update
            other = net.predict(X)
            change = other - mean
            mean += change / k
            squares = squares + change * (other - mean)
        predicted = mean.astype(self.dtype)
        if not spread:
            return predicted
        return predicted, np.sqrt(np.zeros_like(mean) + squares / len(self)).astype(self.dtype)

    def evaluate(
        self, X: Any, y: Any, sample_weight: Any = None, metrics: Sequence[str] = ("accuracy",)
    ) -> dict[str, float]:
        """Loss and metrics of the averaged prediction on data; see `Network.evaluate`."""
        samples = checked_samples(self[0], X, y, sample_weight)
        names = metric_names(metrics, samples.classify)
        return scores_of(self[0], samples, self._evaluation(samples), names)

    def forward(self, X: Any) -> np.ndarray:
        """Raw outputs whose link is the averaged prediction."""
        return self._unlinked(self.predict(X))

    def _unlinked(self, p: np.ndarray) -> np.ndarray:
        link = self.loss.spec.link
        if link in ("identity", "sort"):
            return p
        log_p = np.log(np.maximum(p, _LEAST))
        return log_p - np.log(np.maximum(1 - p, _LEAST)) if link == "sigmoid" else log_p

    def _evaluation(self, samples: Samples) -> Evaluation:
        """What an engine would say of one network with these predictions."""
        p = self.predict(checked_features(self[0], samples.X))
        z = self._unlinked(p)
        record, t = self[0].program.loss, reference.target_values(samples, self.outputs)
        losses, _ = reference.per_sample_loss(record, z.astype(np.float64), t.astype(np.float64))
        correct = reference.is_correct(int(record["code"][0]), z, t)
        w = np.ones(len(z)) if samples.weights is None else samples.weights.astype(np.float64)
        counted = w > 0
        total = float(w.sum())
        loss = float((losses[counted] * w[counted]).sum() / total)
        classifies = self.loss.spec.classifies
        outputs = z if self[0].program.members == 1 else p
        return Evaluation(outputs, loss, total, float(w[correct].sum()) if classifies else 0.0)

    # --- files ------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all networks and ``metadata`` to one file, which `fastnn.load` reads.

        Raises
        ------
        OSError
            No space, no permission, no such folder; an older file at ``path`` is then intact.
        """
        serialization.save_ensemble(self._networks, self.companions, self.metadata, path)
