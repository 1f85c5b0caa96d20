"""What each process of `first_step` does: one training step, or a short training.

It prints what it used and when it ended. It imports only what it needs, as imports count.
"""

import argparse
import json
import time

import processes

LAYERS, INPUTS, CLASSES, BATCH_SIZE = 100, 64, 10, 128  # of the step
OURS = ("auto", "cython", "numba")  # backends of fastnn
HIDDEN, RATE = (256, 128), 1e-3  # of the training, on the sample of MNIST; mini-batches of 32


def step_of_fastnn(backend: str, width: int, threads: int) -> dict:
    """One step of Adam on a network with hidden layers of that width."""
    import numpy as np

    import fastnn as fnn

    fnn.set_num_threads(threads)
    rng = np.random.default_rng(0)
    X, y = rng.random((BATCH_SIZE, INPUTS), dtype=np.float32), rng.integers(0, CLASSES, BATCH_SIZE)
    net = fnn.mlp([INPUTS, *[width] * (LAYERS - 1), CLASSES], backend=backend)
    history = net.fit(X, y, batch_size=BATCH_SIZE, optimizer="adam", progress=False)
    return {"backend": net.backend, "loss": history["loss"][0]}


def step_of_baseline(engine: str, width: int, threads: int) -> dict:
    """The same in another library.

    fastnn describes the network and draws its weights, which takes less than 0.1 s.
    """
    import baselines
    from workloads import Workload, mlp

    workload = Workload(
        "", INPUTS, mlp(*[width] * (LAYERS - 1), CLASSES, activation="relu"), "adam", BATCH_SIZE, 1
    )
    return {"loss": baselines.load(engine).Training(workload, *workload.data(), threads).epoch()}


def train_fastnn(backend: str, epochs: int, threads: int) -> dict:
    """Epochs on the sample of MNIST that comes with the package."""
    import fastnn as fnn

    fnn.set_num_threads(threads)
    train, test = fnn.datasets.mnist_sample()
    net = fnn.mlp([784, *HIDDEN, CLASSES], backend=backend)
    history = net.fit(
        *train, epochs=epochs, batch_size=32, optimizer=fnn.Adam(RATE), progress=False
    )
    return {
        "backend": net.backend,
        "loss": history["loss"][-1],
        "accuracy": net.evaluate(*test)["accuracy"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("task", choices=("step", "training"))
    parser.add_argument("engine", help="a backend of fastnn, or a baseline")
    parser.add_argument("number", type=int, help="width of the hidden layers, or epochs")
    options = parser.parse_args()
    processes.confine(options.threads)
    ours = options.engine in OURS
    run = (
        train_fastnn if options.task == "training" else step_of_fastnn if ours else step_of_baseline
    )
    try:
        found = run(options.engine, options.number, options.threads)
    except RuntimeError as error:
        if "cannot run here" not in str(error):
            raise
        found = {"unsupported": str(error)}
    print(json.dumps({**found, "done": time.time()}))


if __name__ == "__main__":
    main()
