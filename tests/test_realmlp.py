"""Whole networks of RealMLP (Holzmüller et al. 2024) against its formulas in plain PyTorch.

Outputs, gradients, and parameters after ten steps of Adam, with the factors that RealMLP gives to
single arrays.
"""

import numpy as np
import pytest
from builders import features, network, relative_error, targets

import fastnn as fnn

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional
torch.set_num_threads(1)

INPUTS, WIDTH, OUTPUTS, BATCH, STEPS = 9, 64, 3, 40, 10
# Of the learning rate. RealMLP's own optimiser multiplies its decay by a factor twice, which here
# is the factor of the decay: 0.1² for these, 6² for the scale.
SLOW, SCALE = 0.1, 6.0


def hidden(activation):
    return fnn.Dense(WIDTH, activation, scaling="ntk", bias_lr_factor=SLOW)


def simplified(activation):
    """RealMLP-TD-S."""
    scale = fnn.Scale(SCALE, SCALE)
    return [scale, *(hidden(activation) for _ in range(3)), output()]


def tuned(activation):
    """RealMLP-TD, without what it draws at random while it trains."""
    learnt = fnn.Activation(activation, parametric=True, lr_factor=SLOW, decay_factor=SLOW)
    return [fnn.Periodic(lr_factor=SLOW, decay_factor=SLOW), *simplified(learnt)]


def output():
    return fnn.Dense(OUTPUTS, scaling="ntk", bias_lr_factor=SLOW)


NETWORKS = {"TD-S": simplified, "TD": tuned}
ACTIVATIONS = {"selu": F.selu, "mish": F.mish}
LOSSES = {
    "selu": fnn.Loss("softmax_cross_entropy", label_smoothing=0.1),
    "mish": fnn.Loss("mse"),
}
TARGETS = {"selu": "labels", "mish": "values"}


class Formula:
    """The network as PyTorch's formulas of named arrays, which start as those of `net`."""

    def __init__(self, net, kind, activation):
        self.arrays = {
            name: torch.nn.Parameter(torch.tensor(np.array(values)))
            for name, values in net.parameters.items()
        }
        self.first = 1 if kind == "TD" else 0  # the number of the scale
        self.activation, self.is_learnt = ACTIVATIONS[activation], kind == "TD"
        self.classifies = TARGETS[activation] == "labels"

    def __call__(self, x):
        a = self.arrays
        if self.first == 1:
            waves = torch.cos(2 * np.pi * x[:, :, None] * a["0.frequency"] + a["0.phase"])
            y = torch.einsum("rfk,fks->rfs", waves, a["0.weight"]) + a["0.bias"]
            x = torch.cat([y.flatten(1), x], dim=1)
        x = x * a[f"{self.first}.scale"]
        for i in range(self.first + 1, self.first + 5):
            x = x @ a[f"{i}.weight"] / x.shape[1] ** 0.5 + a[f"{i}.bias"]
            if i < self.first + 4:
                change = self.activation(x) - x
                x = x + (a[f"{i}.alpha"] * change if self.is_learnt else change)
        return x

    def loss(self, X, y):
        z = self(X)
        return F.cross_entropy(z, y, label_smoothing=0.1) if self.classifies else F.mse_loss(z, y)

    def optimizer(self, lr, decay):
        groups = []
        for name, array in self.arrays.items():
            layer, kind = name.split(".")
            rate, decays = 1.0, 1.0
            if kind == "scale":
                rate = decays = SCALE
            elif kind == "alpha" or (self.first == 1 and layer == "0"):
                rate = decays = SLOW
            elif kind == "bias":
                rate, decays = SLOW, 0.0
            groups.append({"params": [array], "lr": lr * rate, "weight_decay": decay * decays})
        return torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)

    def found(self):
        return {name: array.detach().numpy() for name, array in self.arrays.items()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_it_is_what_its_formulas_say(engine, kind, activation, dtype):
    of_one, of_ten = {"float32": (1e-5, 1e-4), "float64": (1e-12, 1e-10)}[dtype]
    net = network(NETWORKS[kind](activation), LOSSES[activation], engine, dtype, INPUTS)
    formula = Formula(net, kind, activation)
    rows = BATCH * STEPS
    X, y = features(rows, INPUTS).astype(dtype), targets(TARGETS[activation], rows, OUTPUTS)
    y = y if TARGETS[activation] == "labels" else y.astype(dtype)
    inputs, wanted = torch.tensor(X), torch.tensor(y)

    expected = formula(inputs).detach().numpy()
    assert relative_error({"": net.forward(X)}, {"": expected}) < of_one

    formula.loss(inputs, wanted).backward()
    _, gradients = net.gradients(X, y)
    for name, array in formula.arrays.items():
        assert relative_error({"": gradients[name]}, {"": array.grad.numpy()}) < of_one, name

    optimizer = formula.optimizer(0.04, 0.02)
    for first in range(0, rows, BATCH):
        optimizer.zero_grad()
        formula.loss(inputs[first : first + BATCH], wanted[first : first + BATCH]).backward()
        optimizer.step()
    adam = fnn.AdamW(0.04, beta2=0.95, weight_decay=0.02)
    net.fit(X, y, 1, BATCH, adam, shuffle=False, progress=False)
    expected = formula.found()
    for name, values in net.parameters.items():
        assert relative_error({"": values}, {"": expected[name]}) < of_ten, name
