"""The engines and numbers of threads that are measured, and a check of what they compute."""

import dataclasses

import numpy as np
import processes
from baselines.fastnn_epochs import OPTIMIZERS
from workloads import WORKLOADS, Workload

import fastnn as fnn

REFERENCE = "numpy"
# "cuda" does not use this machine's cores, on which the lower bound is based.
ENGINES = [
    name for name, status in fnn.backends().items() if status == "available" and name != "cuda"
]
COMPILED = [name for name in ENGINES if name != REFERENCE]
THREADS = [n for n in (1, 2) if n <= fnn.num_threads()]
NAMES = [workload.name for workload in WORKLOADS]

_REFERENCE_STEPS = 10  # an epoch; it takes up to fifty times as long as compiled engines
# Later steps would compare rounding errors: Adam moves a weight of almost no gradient by a full
# step of either sign.
_COMPARED_STEPS = 4
_LEARNING_STEPS = 30  # Adam's first ones may overshoot
_GRADIENT_TOLERANCE, _LOSS_TOLERANCE = 1e-3, 1e-4  # of float32 sums in another order


def workload(name: str, engine: str) -> Workload:
    """The workload of a name, with fewer steps for the reference."""
    found = next(workload for workload in WORKLOADS if workload.name == name)
    return (
        dataclasses.replace(found, steps=min(found.steps, _REFERENCE_STEPS))
        if engine == REFERENCE
        else found
    )


def confine(engine: str, threads: int) -> None:
    """Restrict this process to that many threads and cores.

    `NotImplementedError` tells asv to skip a combination.
    """
    if engine == REFERENCE and threads > 1:
        raise NotImplementedError(
            "the reference has no threads of its own: it is measured with one"
        )
    processes.confine(threads)
    fnn.set_num_threads(threads)


def network(of: Workload, engine: str) -> fnn.Network:
    """The workload's network, untrained."""
    return fnn.Network(
        list(of.layers), inputs=of.inputs, loss="softmax_cross_entropy", backend=engine, seed=0
    )


def options(of: Workload) -> dict:
    """How `Network.fit` trains it."""
    return {"batch_size": of.batch_size, "optimizer": OPTIMIZERS[of.optimizer], "progress": False}


def check(of: Workload, engine: str) -> None:
    """Compare the gradient of a mini-batch, and losses of some steps, with the reference's.

    The losses must fall.
    """
    X, y = dataclasses.replace(of, steps=1).data()
    net, reference = network(of, engine), network(of, REFERENCE)
    (_, ours), (_, theirs) = (each.gradients(X, y, training=True) for each in (net, reference))
    for name, gradient in theirs.items():
        difference = np.linalg.norm(ours[name] - gradient)
        if not difference <= _GRADIENT_TOLERANCE * np.linalg.norm(gradient) + 1e-6:
            raise AssertionError(
                f"{engine}, {of.name}: the gradient of {name} is off by {difference:.1e}"
            )
    # A step's loss tells of the updates before it.
    losses, expected = (
        each.fit(X, y, epochs=_COMPARED_STEPS, **options(of))["loss"] for each in (net, reference)
    )
    if not np.allclose(losses, expected, rtol=_LOSS_TOLERANCE):
        raise AssertionError(f"{engine}, {of.name}: losses {losses} instead of {expected}")
    last = net.fit(X, y, epochs=_LEARNING_STEPS, **options(of))["loss"][-1]
    if not last < losses[0]:
        raise AssertionError(
            f"{engine}, {of.name}: does not learn, the loss went from {losses[0]} to {last}"
        )
