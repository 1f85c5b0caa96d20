"""Time of a training step: fastnn beside PyTorch eager, in turn, each in a process of its own.

    python benchmarks/steps.py [--rounds 5] [--threads 2] [--only NAME] [--json FILE]

A round runs every engine once on every workload; the figure is the median over rounds of the microseconds a step takes: the median of
three epochs after one for warming up, divided by their steps. PyTorch is left out where it is not installed.
"""

import argparse
import importlib.util
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time

import numpy as np

# name: (sizes, activation, optimiser, batch size, steps timed)
WORKLOADS = {
    "784-30-10 sigmoid, SGD, batch 10": ([784, 30, 10], "sigmoid", "sgd", 10, 2000),
    "784-30-30-30-30-10 sigmoid, SGD, batch 10": ([784, 30, 30, 30, 30, 10], "sigmoid", "sgd", 10, 1000),
    "16-16-2 relu, Adam, batch 32": ([16, 16, 2], "relu", "adam", 32, 3000),
    "32-64-64-10 relu, Adam, batch 256": ([32, 64, 64, 10], "relu", "adam", 256, 300),
    "784-256-128-10 relu, Adam, batch 128": ([784, 256, 128, 10], "relu", "adam", 128, 150),
    "784-1024-1024-10 relu, Adam, batch 256": ([784, 1024, 1024, 10], "relu", "adam", 256, 15),
    "784, fifty of 64, 10 relu, Adam, batch 128": ([784, *[64] * 50, 10], "relu", "adam", 128, 40),
}


def fastnn_epoch(sizes, activation, optimizer, batch_size, X, y, threads):
    """A function that trains one epoch."""
    import fastnn as fnn

    fnn.set_num_threads(threads)
    net = fnn.mlp(sizes, activation=activation, backend="numba")
    rule = fnn.SGD(0.1) if optimizer == "sgd" else fnn.Adam()
    return lambda: net.fit(X, y, batch_size=batch_size, optimizer=rule)


def torch_epoch(sizes, activation, optimizer, batch_size, X, y, threads):
    """The same network in PyTorch, eager."""
    import torch

    torch.set_num_threads(threads)
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.Sigmoid() if activation == "sigmoid" else torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    rule = torch.optim.SGD(model.parameters(), lr=0.1) if optimizer == "sgd" else torch.optim.Adam(model.parameters())
    loss, X, y = torch.nn.CrossEntropyLoss(), torch.from_numpy(X), torch.from_numpy(y)

    def epoch():
        for rows in torch.randperm(len(X)).split(batch_size):
            rule.zero_grad(set_to_none=True)
            loss(model(X[rows]), y[rows]).backward()
            rule.step()

    return epoch


ENGINES = {"fastnn": fastnn_epoch, "torch": torch_epoch}


def measure(engine, workload, threads):
    """Microseconds a step: median of three epochs, after one for warming up."""
    sizes, activation, optimizer, batch_size, steps = WORKLOADS[workload]
    rng = np.random.default_rng(0)
    X = rng.random((steps * batch_size, sizes[0]), dtype=np.float32)
    y = rng.integers(0, sizes[-1], len(X))
    epoch = ENGINES[engine](sizes, activation, optimizer, batch_size, X, y, threads)
    epoch()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        epoch()
        times.append(time.perf_counter() - start)
    return statistics.median(times) / steps * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="part of a workload's name")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--measure", nargs=2, metavar=("ENGINE", "WORKLOAD"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measure(*options.measure, options.threads))
        return
    engines = [name for name in ENGINES if importlib.util.find_spec(name)]
    workloads = [name for name in WORKLOADS if options.only in name]
    times = {workload: {engine: [] for engine in engines} for workload in workloads}
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    for _ in range(options.rounds):
        for workload in workloads:
            for engine in engines:
                command = [sys.executable, __file__, "--threads", str(options.threads), "--measure", engine, workload]
                result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                times[workload][engine].append(float(result.stdout))
    print(f"{'µs a step, median of ' + str(options.rounds):45s}" + "".join(f"{engine:>12s}" for engine in engines) + "       ratio")
    for workload in workloads:
        medians = [statistics.median(times[workload][engine]) for engine in engines]
        print(f"{workload:45s}" + "".join(f"{m:12.1f}" for m in medians) + f"{medians[-1] / medians[0]:12.1f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"threads": options.threads, "machine": platform.processor() or platform.machine(), "times": times}, file, indent=1)


if __name__ == "__main__":
    main()
