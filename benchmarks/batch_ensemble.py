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
import time

import arguments
import numpy as np
import processes
import report

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


def measure(engine: str, variant: str, threads: int, quick: bool) -> dict:
    """One run: milliseconds and CPU milliseconds a step, and the last loss."""
    processes.confine(threads)
    X, y = data()
    kind = Fastnn if engine == "fastnn" else Tabm
    training = kind(variant, threads, engine.endswith("compile"))
    training.epoch(X, y)
    wall, cpu, loss = [], [], 0.0
    for _ in range(1 if quick else EPOCHS):
        started, cpu_started = time.perf_counter(), time.process_time()
        loss = training.epoch(X, y)
        wall.append((time.perf_counter() - started) / STEPS * 1e3)
        cpu.append((time.process_time() - cpu_started) / STEPS * 1e3)
    return {
        "milliseconds": statistics.median(wall),
        "cpu_milliseconds": statistics.median(cpu),
        "loss": loss,
    }


def compare(options: argparse.Namespace) -> None:
    """Measure in rounds, and show the table."""
    engines = options.engines or ENGINES
    raw: dict[str, list[dict]] = {engine: [] for engine in engines}
    for number in range(1, options.rounds + 1):
        for engine in engines:
            extra = ["--quick"] if options.quick else []
            call = ["--variant", options.variant, "--measure", engine, *extra]
            raw[engine].append(processes.run(__file__, call, options.threads))
        report.write(
            options.json,
            {
                "date": options.date,
                "threads": options.threads,
                "rounds": number,
                "variant": options.variant,
                "raw": raw,
            },
        )
    ours = _median(raw.get("fastnn", []), "milliseconds")
    rows = []
    for engine, runs in raw.items():
        wall, cpu = _median(runs, "milliseconds"), _median(runs, "cpu_milliseconds")
        ratio = wall / ours if wall and ours else None
        failed = [run["error"] for run in runs if "error" in run]
        rows.append([engine, *map(report.figure, (wall, cpu, ratio)), *(failed[:1] or [""])])
    print(report.table(["median of a step", "ms", "CPU ms", "÷ fastnn", ""], rows))


def _median(runs: list[dict], key: str) -> float | None:
    values = [run[key] for run in runs if key in run]
    return statistics.median(values) if values else None


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
        compare(options)


if __name__ == "__main__":
    main()
