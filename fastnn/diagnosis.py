"""Look at a network and data: gather the evidence for a diagnosis."""

from dataclasses import replace
from typing import Any

import numpy as np

from fastnn import flow
from fastnn._kernels import opcodes, philox
from fastnn._kernels.contract import Samples
from fastnn.callbacks import GradientFlow
from fastnn.errors import DivergenceError
from fastnn.faults import Evidence, find_faults
from fastnn.findings import Cure, Diagnosis
from fastnn.optimizers import LBFGS, Optimizer

_SAMPLES = 2000  # enough for the statistics of a layer
_EPOCHS = 5  # of the trial that tells whether a learning rate suits
_SPLIT = 1  # number of the random order, so that it is not that of validation


def examine(net: Any, samples: Samples, optimizer: Optimizer | LBFGS | None, batch_size: int) -> Diagnosis:
    """See `Network.diagnose`."""
    samples = samples.take(np.sort(philox.permutation(net.seed, opcodes.STREAM_SPLIT, _SPLIT, len(samples))[:_SAMPLES]))
    log, gradient = net.engine.gradients(net.state, samples, training=True, measure=True)
    evidence = Evidence(
        flow=_flow(net, log.statistics, len(samples)),
        copies=_copies(net, gradient),
        input_scale=float(np.sqrt(np.square(samples.X, dtype=np.float64).mean())),
        optimizer=optimizer,
        diverged=None if log.finite else f"has a loss of {log.losses[0]} at its present parameters",
    )
    found = find_faults(evidence)
    if not found and optimizer is not None:
        found = find_faults(_trial(net, samples, evidence, batch_size))
    return Diagnosis(replace(finding, cures=tuple(cure for cure in finding.cures if _changes(cure, net))) for finding in found)


def _changes(cure: Cure, net: Any) -> bool:
    """Whether a cure is more than what the network has already."""
    return bool(cure.fit) or repr(cure.layers(net.layers)) != repr(net.layers)


def _flow(net: Any, statistics: np.ndarray, rows: int) -> flow.Flow | None:
    if not len(statistics):
        return None
    recorder = flow.Recorder(net.program)
    recorder.add(np.array([net.state.step]), statistics, np.array([rows]))
    return recorder.flow


def _trial(net: Any, samples: Samples, evidence: Evidence, batch_size: int) -> Evidence:
    """What training a copy shows."""
    y = samples.values if samples.labels is None else samples.labels
    diverged = None
    try:
        recorder = GradientFlow(every=1)
        history = net.copy().fit(
            samples.X, y, _EPOCHS, batch_size, evidence.optimizer, sample_weight=samples.weights, callbacks=[recorder], progress=False
        )
    except DivergenceError as error:
        history, diverged = error.history, error.history.stopped
    measured = history.gradient_flow if len(history.gradient_flow) else evidence.flow
    return replace(evidence, flow=measured, losses=history.get("loss", ()), diverged=diverged)


def _copies(net: Any, gradient: np.ndarray) -> np.ndarray:
    """By layer, the share of units whose weights and bias, and the gradients of them, are those of another unit."""
    arrays = {array.name: array for array in net.program.parameters}
    shares = []
    for layer in flow.layer_ops(net.program):
        own = [arrays[name] for name in (f"{layer.name}.weight", f"{layer.name}.bias") if name in arrays]
        units = np.vstack([array.view(vector) for array in own for vector in (net.state.theta, gradient)])
        shares.append(1 - len(np.unique(units, axis=1).T) / units.shape[1])
    return np.array(shares)
