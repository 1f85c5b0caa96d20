"""Time of a training step of TabM: fastnn, and the authors' package ``tabm`` in PyTorch.

    python benchmarks/batch_ensemble.py [--rounds 5] [--threads 2] [--engines fastnn,tabm]
                                        [--variant tabm] [--json FILE] [--quick]

32 members, three blocks of width 512 with ReLU and dropout 0.1, 30 inputs, 2 classes, AdamW,
mini-batches of 256. A round runs every engine once, each in a process of its own. A run is a
warm-up epoch, compilation included, then three epochs; its result is the median of their seconds
divided by their steps. CPU seconds, of all threads, stand beside them: on a busy machine they tell
more. The table shows medians over rounds, and how often fastnn's time each engine takes.
"""

import argparse
import json
import statistics

import arguments
import numpy as np
import processes
import step_times

ENGINES = ("fastnn", "tabm", "tabm.compile")
VARIANTS = {"tabm": "all", "tabm-mini": "first"}  # name in the package → scaling of BatchEnsemble
MEMBERS, WIDTH, BLOCKS, DROPOUT, INPUTS, CLASSES, BATCH = 32, 512, 3, 0.1, 30, 2, 256
LR, DECAY, STEPS, EPOCHS = 2e-3, 3e-4, 5, 3


def data() -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of an epoch."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(BATCH * STEPS, INPUTS)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] > 0).astype(np.int64)


class Fastnn:
    """fastnn's training."""

    def __init__(self, variant: str, threads: int, compiles: bool):
        import fastnn as fnn

        fnn.set_num_threads(threads)
        start = {"init": "fan_in_uniform", "bias_init": "fan_in_uniform"}
        block = [fnn.Dense(WIDTH, "relu", **start), fnn.Dropout(DROPOUT)]
        layers = [*block * BLOCKS, fnn.Heads(CLASSES)]
        ensemble = fnn.BatchEnsemble(MEMBERS, layers, VARIANTS[variant])
        self.net = fnn.Network([ensemble], INPUTS, "softmax_cross_entropy")
        self.optimizer = fnn.AdamW(LR, weight_decay=DECAY)

    def epoch(self, X: np.ndarray, y: np.ndarray) -> float:
        history = self.net.fit(X, y, 1, BATCH, self.optimizer, progress=False)
        return history["loss"][-1]


class Tabm:
    """The authors' package, eager or compiled."""

    def __init__(self, variant: str, threads: int, compiles: bool):
        import tabm
        import torch

        torch.set_num_threads(threads)
        model = tabm.TabM(
            n_num_features=INPUTS,
            d_out=CLASSES,
            k=MEMBERS,
            n_blocks=BLOCKS,
            d_block=WIDTH,
            dropout=DROPOUT,
            arch_type=variant,
            start_scaling_init="random-signs",
        )
        self.torch, self.optimizer = (
            torch,
            torch.optim.AdamW(model.parameters(), LR, weight_decay=DECAY),
        )
        self.model = torch.compile(model) if compiles else model

    def epoch(self, X: np.ndarray, y: np.ndarray) -> float:
        torch, losses = self.torch, []
        features, labels = torch.from_numpy(X), torch.from_numpy(y)
        order = torch.randperm(len(X))
        for rows in order.split(BATCH):
            self.optimizer.zero_grad(set_to_none=True)
            outputs = self.model(features[rows])  # (batch, members, classes)
            target = labels[rows].repeat_interleave(MEMBERS)
            loss = torch.nn.functional.cross_entropy(outputs.flatten(0, 1), target)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return statistics.mean(losses)


def measure(engine: str, variant: str, threads: int, quick: bool) -> dict[str, float]:
    """One run."""
    processes.confine(threads)
    kind = Fastnn if engine == "fastnn" else Tabm
    training = kind(variant, threads, engine.endswith("compile"))
    return step_times.measure(training, *data(), STEPS, 1 if quick else EPOCHS)


def main() -> None:
    parser = arguments.parser(__doc__, ENGINES)
    parser.add_argument("--variant", default="tabm", choices=VARIANTS)
    parser.add_argument("--quick", action="store_true", help="one epoch, to see whether all runs")
    parser.add_argument("--measure", metavar="ENGINE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        run = measure(options.measure, options.variant, options.threads, options.quick)
        print(json.dumps(run))
    else:
        words = ["--variant", options.variant, *(["--quick"] if options.quick else [])]
        engines = options.engines or list(ENGINES)
        step_times.compare(__file__, engines, words, options, variant=options.variant)


if __name__ == "__main__":
    main()
