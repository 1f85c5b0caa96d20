"""The diagnosis of a network on data: gather evidence, then look for faults in it."""

from dataclasses import replace

import numpy as np

from fastnn._kernels import opcodes, philox
from fastnn._kernels.contract import Samples
from fastnn._kernels.reference import per_sample_loss, target_values
from fastnn.callbacks import GradientFlow
from fastnn.diagnostics.evidence import Evidence
from fastnn.diagnostics.faults import find_faults
from fastnn.diagnostics.findings import Diagnosis
from fastnn.diagnostics.gradient_flow import Flow, Recorder, layer_ops
from fastnn.errors import DivergenceError
from fastnn.nn.protocol import NetworkProtocol
from fastnn.optim.optimizers import LBFGS, Optimizer

_SAMPLES = 2000  # enough for the statistics of a layer
_EPOCHS = 5  # of the trial with the given optimiser
_LARGEST_LOGIT = 30.0  # of a certain prediction
_SPLIT = 1  # number of the random order, so that it is not that of validation


def examine(
    net: NetworkProtocol, samples: Samples, optimizer: Optimizer | LBFGS | None, batch_size: int
) -> Diagnosis:
    """See `Network.diagnose`."""
    if not layer_ops(net.program):
        raise ValueError("a network without Dense layers has nothing to diagnose")
    samples = samples.take(
        np.sort(philox.permutation(net.seed, opcodes.STREAM_SPLIT, _SPLIT, len(samples))[:_SAMPLES])
    )
    log, gradient = net.engine.gradients(net.state, samples, training=True, measure=True)
    evidence = Evidence(
        flow=_flow(net, log.statistics, samples) if log.finite else None,
        copies=_copies(net, gradient),
        losses=(float(log.losses[0]),) if log.finite else (),
        first_loss=_loss_of_a_constant(net, samples),
        layers=net.layers,
        diverged=None if log.finite else f"has a loss of {log.losses[0]} at its present parameters",
    )
    evidence = replace(
        evidence,
        trained=evidence.learnt,
        slope=evidence.relative_gradients.max() if log.finite else None,
    )
    found = find_faults(evidence)
    return (
        found
        if found or optimizer is None
        else find_faults(_trial(net, samples, evidence, optimizer, batch_size))
    )


def _flow(net: NetworkProtocol, statistics: np.ndarray, samples: Samples) -> Flow:
    recorder = Recorder(net.program, samples)
    dropout = net.program.dropout_rates(net.state.optimizer_step, 1)
    recorder.add(np.array([net.state.step]), statistics, np.array([len(samples)]), dropout)
    return recorder.flow


def _loss_of_a_constant(net: NetworkProtocol, samples: Samples) -> float:
    """The loss of a network that predicts the targets' mean, or quantiles, for every sample."""
    t = target_values(samples, net.outputs).astype(np.float64)
    z = mean = t.mean(axis=0, keepdims=True)
    # A class without samples has an infinite logarithm, which is then bounded.
    with np.errstate(all="ignore"):
        if net.loss.spec.link == "sigmoid":
            z = np.clip(np.log(mean / (1 - mean)), -_LARGEST_LOGIT, _LARGEST_LOGIT)
        elif net.loss.levels:
            z = np.quantile(t[:, 0], net.loss.levels)
        elif net.loss.spec.link != "identity":
            z = np.clip(np.log(mean), -_LARGEST_LOGIT, _LARGEST_LOGIT)
        losses, _ = per_sample_loss(net.program.loss, np.broadcast_to(z, t.shape), t)
    return float(losses.mean())


def _trial(
    net: NetworkProtocol,
    samples: Samples,
    evidence: Evidence,
    optimizer: Optimizer | LBFGS,
    batch_size: int,
) -> Evidence:
    """The evidence of a short training of a copy."""
    y = samples.values if samples.labels is None else samples.labels
    if net.loss.levels and y is not None:
        y = y[:, :1]  # each output has the same target
    try:
        history = net.copy().fit(
            samples.X,
            y,
            _EPOCHS,
            batch_size,
            optimizer,
            sample_weight=samples.weights,
            callbacks=[GradientFlow(every=1)],
            progress=False,
        )
        diverged = None
    except DivergenceError as error:
        if error.history is None:  # `fit` always passes one
            raise
        history, diverged = error.history, error.history.stopped
    measured = history.gradient_flow or evidence.flow
    return replace(
        evidence,
        flow=measured,
        losses=history.get("loss", ()),
        optimizer=optimizer,
        diverged=diverged,
    )


def _copies(net: NetworkProtocol, gradient: np.ndarray) -> np.ndarray:
    """By layer, the fraction of units that are copies of another: see `Evidence.copies`."""
    arrays = {array.name: array for array in net.program.parameters}
    fractions = []
    for layer in layer_ops(net.program):
        own = [
            arrays[name]
            for name in (f"{layer.name}.weight", f"{layer.name}.bias")
            if name in arrays
        ]
        units = np.vstack(
            [
                array.view(vector)
                for array in own
                for vector in (net.state.read_only_copy("theta"), gradient)
            ]
        )
        fractions.append(1 - len(np.unique(units, axis=1).T) / units.shape[1])
    return np.array(fractions)
