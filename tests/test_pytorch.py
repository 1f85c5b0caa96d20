"""Every formula against PyTorch, where it has the same one, in float64."""

import numpy as np
import pytest
from builders import (
    LOSS_CASES,
    OUTPUTS,
    STEPPING,
    features,
    network,
    optimizer,
    sample_weights,
    targets,
)

import fastnn as fnn
from fastnn.nn.activations import ACTIVATIONS

torch = pytest.importorskip("torch")
F = torch.nn.functional
torch.set_num_threads(1)

TORCH_ACTIVATIONS = {
    "linear": lambda z: z,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.relu,
    "leaky_relu": lambda z: F.leaky_relu(z, 0.01),
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "softplus": lambda z: F.softplus(z, threshold=1000.0),
    "softsign": F.softsign,
    "hard_sigmoid": F.hardsigmoid,
    "hard_tanh": F.hardtanh,
}


def smoothed(y, loss):
    return y * (1 - loss.constants["label_smoothing"]) + loss.constants["label_smoothing"] / 2


def pinball(e, levels):
    return torch.maximum(levels * e, (levels - 1) * e)


# Each gives one loss per sample.
TORCH_LOSSES = {
    "softmax_cross_entropy": lambda z, y, loss: F.cross_entropy(
        z, y, reduction="none", label_smoothing=loss.constants["label_smoothing"]
    ),
    "binary_cross_entropy": lambda z, y, loss: F.binary_cross_entropy_with_logits(
        z, smoothed(y, loss), reduction="none"
    ).sum(1),
    "mse": lambda z, y, loss: F.mse_loss(z, y, reduction="none").mean(1),
    "quadratic": lambda z, y, loss: 0.5 * F.mse_loss(z, y, reduction="none").sum(1),
    "mae": lambda z, y, loss: F.l1_loss(z, y, reduction="none").mean(1),
    "huber": lambda z, y, loss: F.huber_loss(
        z, y, reduction="none", delta=loss.constants["delta"]
    ).mean(1),
    "quantile": lambda z, y, loss: pinball(
        y - z, torch.tensor(loss.levels, dtype=torch.float64)
    ).mean(1),
    "poisson": lambda z, y, loss: F.poisson_nll_loss(
        z, y, log_input=True, full=False, reduction="none"
    ).mean(1),
}
TORCH_OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "momentum": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "nesterov": lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True),
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
}
# torch.optim.SGD's own default is another one
TORCH_RATES = {"sgd": 0.01, "momentum": 0.01, "nesterov": 0.01}

LAYERS = [
    fnn.Dense(8, "tanh"),
    fnn.BatchNorm(),
    fnn.Dense(6, "silu"),
    fnn.LayerNorm(),
    fnn.Dense(OUTPUTS),
]


class Twin(torch.nn.Module):
    """A network's layers in PyTorch, with copies of its parameters under the same names."""

    def __init__(self, net):
        super().__init__()
        self.layers, self.buffers_of = (
            net.layers,
            {name: torch.tensor(b) for name, b in net.buffers.items()},
        )
        self.named = {
            name: torch.tensor(values).requires_grad_() for name, values in net.parameters.items()
        }

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            if isinstance(layer, fnn.Dense):
                x = TORCH_ACTIVATIONS[layer.activation.name](
                    x @ self.named[f"{i}.weight"] + self.named[f"{i}.bias"]
                )
                continue
            scale, shift = self.named[f"{i}.scale"], self.named[f"{i}.shift"]
            if isinstance(layer, fnn.BatchNorm):
                running = self.buffers_of[f"{i}.running_mean"], self.buffers_of[f"{i}.running_var"]
                x = F.batch_norm(
                    x, *running, scale, shift, self.training, layer.momentum, layer.epsilon
                )
            else:
                x = F.layer_norm(x, x.shape[1:], scale, shift, layer.epsilon)
        return x

    def cost(self, loss, X, y, w=None):
        losses = TORCH_LOSSES[loss.name](self(torch.tensor(X)), torch.tensor(y), loss)
        w = torch.ones_like(losses) if w is None else torch.tensor(w)
        return (w * losses).sum() / w.sum()

    def groups(self, decay):
        """Parameters in two groups: weights, which decay, and the rest."""
        weights = [p for name, p in self.named.items() if name.endswith("weight")]
        rest = [p for name, p in self.named.items() if not name.endswith("weight")]
        return [{"params": weights, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


def assert_equal_arrays(found, expected, tolerance=1e-10):
    for name, values in found.items():
        np.testing.assert_allclose(
            values, expected[name].detach().numpy(), rtol=tolerance, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("case", LOSS_CASES)
def test_losses_and_gradients(engine, case, weighted):
    name, kind = LOSS_CASES[case]
    net, X, y = network(LAYERS, name, engine), features(11), targets(kind, 11)
    w = sample_weights(11) if weighted else None
    for training in (False, True):
        twin = Twin(net).train(training)
        expected = twin.cost(net.loss, X, y, w)
        expected.backward()
        loss, gradients = net.gradients(X, y, training, sample_weight=w)
        assert loss == pytest.approx(expected.item(), rel=1e-10)
        assert_equal_arrays(gradients, {name: p.grad for name, p in twin.named.items()})


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_derivatives(engine, name):
    """Row r of X sees only weight r, so the layer's inputs are its weights."""
    # ±3 is one only in exact arithmetic: z/6 + ½ is rounded
    kinks = [] if name == "hard_sigmoid" else [-1.0, 1.0]
    z = np.concatenate([np.linspace(-12, 12.1, 400), [-40.0, 0.0, 40.0], kinks])[:, None]
    net = fnn.Network(
        [fnn.Dense(1, name, init=z, bias=False)], len(z), "quadratic", "float64", engine
    )
    X, w = np.eye(len(z)), torch.tensor(z, requires_grad=True)
    y = TORCH_ACTIVATIONS[name](w)
    np.testing.assert_allclose(net.forward(X), y.detach(), rtol=1e-12, atol=1e-14)
    (0.5 * (y - 50.0) ** 2).mean().backward()
    _, gradients = net.gradients(X, np.full(len(z), 50.0))
    # PyTorch has 1/6 in single precision there
    tolerance = 1e-7 if name == "hard_sigmoid" else 1e-11
    np.testing.assert_allclose(gradients["0.weight"], w.grad, rtol=tolerance, atol=1e-13)


# Parameters: each is what one or two of the tests vary.
def train_both(
    net,
    optimizer,
    make,
    steps_per_epoch=6,
    epochs=5,
    after_backward=lambda twin: None,
    schedule=None,
    scale=1.0,
    decay=0.0,
):
    """The same steps in both; returns the twin."""
    rows = 5 * steps_per_epoch - 2  # the last batch is short
    X, y = features(rows), scale * targets("values", rows)
    twin = Twin(net)
    stepper = make(twin.groups(decay))
    scheduler = schedule(stepper) if schedule else None
    net.fit(X, y, epochs=epochs, batch_size=5, optimizer=optimizer, shuffle=False)
    for step in range(steps_per_epoch * epochs):
        rows_now = slice(step % steps_per_epoch * 5, step % steps_per_epoch * 5 + 5)
        stepper.zero_grad()
        twin.cost(net.loss, X[rows_now], y[rows_now]).backward()
        after_backward(twin)
        stepper.step()
        if scheduler:
            scheduler.step()
    return twin


def with_rate(name):
    kind, rates = TORCH_OPTIMIZERS[name], TORCH_RATES
    return lambda groups: kind(
        [{**group, "lr": rates[name]} for group in groups] if name in rates else groups
    )


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("name", STEPPING)
def test_optimizers(engine, name, decay):
    net = network([fnn.Dense(8, "tanh"), fnn.LayerNorm(), fnn.Dense(OUTPUTS)], "mse", engine)
    twin = train_both(net, optimizer(name, weight_decay=decay), with_rate(name), decay=decay)
    assert net.state.optimizer_step == 30
    # its ε stands beside the root in PyTorch
    assert_equal_arrays(net.parameters, twin.named, 1e-6 if name == "adagrad" else 1e-9)


def test_adamw_decays_by_default(engine):
    net = network([fnn.Dense(8, "tanh"), fnn.Dense(OUTPUTS)], "mse", engine)
    twin = train_both(net, "adamw", torch.optim.AdamW, decay=0.01)  # torch.optim.AdamW's default
    assert_equal_arrays(net.parameters, twin.named)


def test_norms_over_steps(engine):
    net = network(
        [fnn.Dense(8), fnn.BatchNorm(momentum=0.3, epsilon=1e-3), *LAYERS[2:]], "mse", engine
    )
    for _ in range(3):
        twin = train_both(
            net, fnn.SGD(0.1), lambda groups: torch.optim.SGD(groups, lr=0.1), epochs=1
        )
        assert_equal_arrays(net.parameters, twin.named)
        assert_equal_arrays(net.buffers, twin.buffers_of)
    X = features(9)
    np.testing.assert_allclose(net.forward(X), twin.eval()(torch.tensor(X)).detach(), rtol=1e-10)


CLIPS = {
    # targets are large, so that the 1e-6 which PyTorch adds to the norm is not seen
    "norm": (
        {"clip_norm": 1.0},
        1e3,
        lambda twin: torch.nn.utils.clip_grad_norm_(twin.named.values(), 1.0),
    ),
    "value": (
        {"clip_value": 0.01},
        1.0,
        lambda twin: torch.nn.utils.clip_grad_value_(twin.named.values(), 0.01),
    ),
}


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam"])
@pytest.mark.parametrize("clip", CLIPS)
def test_clipping(engine, clip, name):
    options, scale, act = CLIPS[clip]
    net = network([fnn.Dense(8, "tanh"), fnn.Dense(OUTPUTS)], "mse", engine)
    twin = train_both(
        net, optimizer(name, **options), with_rate(name), after_backward=act, scale=scale
    )
    assert_equal_arrays(net.parameters, twin.named, 1e-7)


STEPS = 40
RATES = {
    "Constant": (fnn.Constant(0.1), lambda o: torch.optim.lr_scheduler.ConstantLR(o, factor=1.0)),
    "Exponential": (
        fnn.Exponential(0.1, 0.9),
        lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
    ),
    "StepDecay": (fnn.StepDecay(0.1, 7, 0.3), lambda o: torch.optim.lr_scheduler.StepLR(o, 7, 0.3)),
    "Cosine": (
        fnn.Cosine(0.1, STEPS, 0.01),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, STEPS, 0.01),
    ),
    "InverseTime": (
        fnn.InverseTime(0.1, 0.5),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + 0.5 * t)),
    ),
    # PyTorch's rise ends one step before its share of the steps, and its fall at the last step
    # rather than after it
    "OneCycle": (
        fnn.OneCycle(0.1, STEPS - 1, rise=12 / (STEPS - 1)),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, 0.1, total_steps=STEPS, pct_start=13 / STEPS, cycle_momentum=False
        ),
    ),
    "Warmup": (
        fnn.Warmup(5, 0.1),
        lambda o: torch.optim.lr_scheduler.LinearLR(o, 1 / 5, total_iters=4),
    ),
}


@pytest.mark.parametrize("name", RATES)
def test_schedules(name):
    ours, theirs = RATES[name]
    stepper = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler, rates = theirs(stepper), []
    for _ in range(STEPS):
        rates.append(scheduler.get_last_lr()[0])
        stepper.step()
        if len(rates) < STEPS:
            scheduler.step()
    np.testing.assert_allclose(ours.rates(0, STEPS), rates, rtol=1e-12)


def test_a_schedule_in_training(engine):
    net = network([fnn.Dense(8, "tanh"), fnn.Dense(OUTPUTS)], "mse", engine)
    optimizer = fnn.SGD(fnn.Exponential(0.1, 0.9), momentum=0.5)
    twin = train_both(
        net,
        optimizer,
        lambda g: torch.optim.SGD(g, lr=0.1, momentum=0.5),
        schedule=RATES["Exponential"][1],
    )
    assert_equal_arrays(net.parameters, twin.named)
