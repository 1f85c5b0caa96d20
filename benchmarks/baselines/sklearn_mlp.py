"""scikit-learn: `MLPClassifier.partial_fit`, one call of which is one epoch.

It trains plain networks only: dense layers, one hidden activation. Two classes have one logistic
output instead of two, which is less work. Initial weights have scikit-learn's own distribution.
`processes` sets the number of threads of BLAS.
"""

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier
from workloads import Workload

from baselines import Unsupported
from fastnn.nn.layers import Dense

ACTIVATIONS = {"linear": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}
OPTIMIZERS = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.1, "momentum": 0.0},
    "momentum": {
        "solver": "sgd",
        "learning_rate_init": 0.01,
        "momentum": 0.9,
        "nesterovs_momentum": False,
    },
    "adam": {"solver": "adam", "learning_rate_init": 1e-3},
}


def classifier(workload: Workload, seed: int) -> MLPClassifier:
    """The network, or Unsupported."""
    *hidden, last = workload.layers
    if (
        not all(isinstance(layer, Dense) for layer in workload.layers)
        or last.activation.name != "linear"
    ):
        raise Unsupported("scikit-learn has dense layers only")
    activations = {layer.activation.name for layer in hidden} or {"linear"}
    if len(activations) > 1 or not activations <= ACTIVATIONS.keys():
        raise Unsupported(
            f"scikit-learn has no network with the activations {', '.join(sorted(activations))}"
        )
    return MLPClassifier(
        hidden_layer_sizes=[layer.units for layer in hidden],
        activation=ACTIVATIONS[activations.pop()],
        alpha=0.0,
        batch_size=workload.batch_size,
        shuffle=True,
        random_state=np.random.RandomState(seed),  # a number would repeat the shuffle every epoch
        **OPTIMIZERS[workload.optimizer],
    )


class Training:
    """See `baselines`."""

    def __init__(
        self, workload: Workload, X: np.ndarray, y: np.ndarray, threads: int, seed: int = 0
    ):
        sklearn.set_config(assume_finite=True, skip_parameter_validation=True)
        self.model, self.samples = classifier(workload, seed), (X, y)
        self.classes = np.arange(workload.layers[-1].units)

    def epoch(self) -> float:
        """Mean loss of the epoch."""
        return float(self.model.partial_fit(*self.samples, classes=self.classes).loss_)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Labels."""
        return self.model.predict(X)
