"""Time of a training step of RealMLP-TD: fastnn, and the same network in PyTorch.

    python benchmarks/realmlp.py [--rounds 5] [--threads 2] [--engines fastnn,torch]
                                 [--json FILE] [--quick]

18 numbers with periodic embeddings, a learnt scale, three layers of 256 with parametric SELU and
dropout 0.15, 2 classes, label smoothing, Adam with decoupled decay, mini-batches of 256. A round
runs every engine once, each in a process of its own. A run is a warm-up epoch, then five epochs;
its result is the median of their seconds divided by their steps. CPU seconds, of all threads, stand
beside them. The table shows medians over rounds, and how often fastnn's time each engine takes.
"""

import argparse
import itertools
import json

import arguments
import numpy as np
import processes
import step_times

ENGINES = ("fastnn", "torch")
INPUTS, WIDTH, CLASSES, BATCH, STEPS, EPOCHS = 18, 256, 2, 256, 40, 5
FREQUENCIES, SIZE, SIGMA = 16, 3, 0.1
DROPOUT, SMOOTHING, LR, DECAY, SLOW, SCALE = 0.15, 0.1, 0.04, 0.02, 0.1, 6.0


def data() -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of an epoch."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(BATCH * STEPS, INPUTS)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] > 0).astype(np.int64)


class Fastnn:
    """fastnn's training."""

    def __init__(self, threads: int):
        import fastnn as fnn

        fnn.set_num_threads(threads)
        layers = [fnn.Periodic(FREQUENCIES, SIGMA, SIZE, lr_factor=SLOW, decay_factor=SLOW)]
        layers.append(fnn.Scale(SCALE, SCALE))
        act = fnn.Activation("selu", parametric=True, lr_factor=SLOW, decay_factor=SLOW)
        for _ in range(3):
            layers.append(fnn.Dense(WIDTH, act, scaling="ntk", bias_lr_factor=SLOW))
            layers.append(fnn.Dropout(DROPOUT))
        layers.append(fnn.Dense(CLASSES, scaling="ntk", bias_lr_factor=SLOW))
        loss = fnn.Loss("softmax_cross_entropy", label_smoothing=SMOOTHING)
        self.net = fnn.Network(layers, INPUTS, loss)
        self.optimizer = fnn.AdamW(LR, beta2=0.95, weight_decay=DECAY)

    def epoch(self, X: np.ndarray, y: np.ndarray) -> float:
        return self.net.fit(X, y, 1, BATCH, self.optimizer, progress=False)["loss"][-1]


class Torch:
    """The same formulas, eager."""

    def __init__(self, threads: int):
        import torch

        torch.set_num_threads(threads)
        self.torch = torch

        def array(*shape: int, std: float = 1.0) -> "torch.nn.Parameter":
            return torch.nn.Parameter(std * torch.randn(*shape))

        self.frequency = array(INPUTS, FREQUENCIES, std=SIGMA)
        self.phase = array(INPUTS, FREQUENCIES)
        self.map = array(INPUTS, FREQUENCIES, SIZE, std=FREQUENCIES**-0.5)
        self.map_bias = array(INPUTS, SIZE, std=FREQUENCIES**-0.5)
        width = INPUTS * (SIZE + 1)
        self.scale = torch.nn.Parameter(torch.ones(width))
        sizes = [width, WIDTH, WIDTH, WIDTH, CLASSES]
        self.weights = [array(a, b) for a, b in itertools.pairwise(sizes)]
        self.biases = [array(b) for b in sizes[1:]]
        self.alphas = [torch.nn.Parameter(torch.ones(WIDTH)) for _ in range(3)]
        slow = [self.frequency, self.phase, self.map, self.map_bias, *self.alphas]
        groups = [
            {"params": slow, "lr": LR * SLOW, "weight_decay": DECAY * SLOW},
            {"params": [self.scale], "lr": LR * SCALE, "weight_decay": DECAY * SCALE},
            {"params": self.weights, "lr": LR, "weight_decay": DECAY},
            {"params": self.biases, "lr": LR * SLOW, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)

    def forward(self, x):
        torch = self.torch
        waves = torch.cos(2 * torch.pi * x[:, :, None] * self.frequency + self.phase)
        y = torch.einsum("rfk,fks->rfs", waves, self.map) + self.map_bias
        x = torch.cat([y.flatten(1), x], dim=1) * self.scale
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.addmm(b, x, w, alpha=x.shape[1] ** -0.5)
            if k < 3:
                x = x + self.alphas[k] * (torch.nn.functional.selu(x) - x)
                x = torch.nn.functional.dropout(x, DROPOUT)
        return x

    def epoch(self, X: np.ndarray, y: np.ndarray) -> float:
        torch, losses = self.torch, []
        features, labels = torch.from_numpy(X), torch.from_numpy(y)
        for rows in torch.randperm(len(X)).split(BATCH):
            self.optimizer.zero_grad(set_to_none=True)
            outputs = self.forward(features[rows])
            loss = torch.nn.functional.cross_entropy(
                outputs, labels[rows], label_smoothing=SMOOTHING
            )
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())


def measure(engine: str, threads: int, quick: bool) -> dict[str, float]:
    """One run."""
    processes.confine(threads)
    training = {"fastnn": Fastnn, "torch": Torch}[engine](threads)
    return step_times.measure(training, *data(), STEPS, 1 if quick else EPOCHS)


def main() -> None:
    """Run the command line."""
    parser = arguments.parser(__doc__, ENGINES)
    parser.add_argument("--quick", action="store_true", help="one epoch, to see whether all runs")
    parser.add_argument("--measure", metavar="ENGINE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.threads, options.quick)))
    else:
        words = ["--quick"] if options.quick else []
        step_times.compare(__file__, options.engines or list(ENGINES), words, options)


if __name__ == "__main__":
    main()
