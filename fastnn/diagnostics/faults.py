"""Faults of a network that does not learn: each a function from `Evidence` to a `Finding`.

`Network.diagnose` and `History.diagnose` gather the evidence and look for the same faults, the
gravest first: a dead or symmetric layer has no gradient that could vanish, so it is named before.
`fastnn.diagnostics.cures` has the cures.
"""

import math
from collections.abc import Callable

import numpy as np

from fastnn.diagnostics import variants
from fastnn.diagnostics.cures import (
    ADAM,
    CLIP,
    DROPOUT,
    INIT,
    L2,
    LEAKY_RELU,
    LINEAR_OUTPUT,
    NORMALISE,
    RELU,
    SHORTCUTS,
    STOP_EARLY,
    fitting,
    learning_rate,
)
from fastnn.diagnostics.evidence import Evidence
from fastnn.diagnostics.findings import Diagnosis, Finding
from fastnn.optim.optimizers import LBFGS

# Where a fault begins. The figures lie between those of the healthy and of the broken networks in
# tests/test_diagnosis.py.
VANISHING = 100.0  # times that the learning speed falls from the output to the first layer
# times that ‖∂C/∂W‖ is smaller than the output's, at least, behind a normalisation
SMALL_GRADIENT = 5.0
EXPLODING = 30.0  # ‖∂C/∂W‖ over ‖W‖
DEAD = 0.7  # fraction of a layer's units
SATURATED = 0.5  # fraction of a layer's outputs
SYMMETRIC = 0.5  # fraction of a layer's units that are copies of another
LARGE_UPDATE, LARGE_UPDATE_WITHOUT_FALL = 0.3, 0.1  # ‖ΔW‖ over ‖W‖ of a step
SMALL_UPDATE = 1e-4
FLAT = 0.05  # fraction by which the loss has to fall at least
OVERFITTING = 1.15  # loss on validation data over its best
GOOD_UPDATE = 3e-3  # what a new learning rate aims at
SMALL_GAIN = 0.6  # see `Evidence.gain`


def find_faults(evidence: Evidence) -> Diagnosis:
    """The faults that the evidence shows, without those that another one brings about."""
    found, explained = Diagnosis(), set()
    for fault, find in FAULTS.items():
        finding = None if fault in explained else find(evidence)
        if finding is not None:
            found.append(finding)
            explained.update(BRINGS_ABOUT.get(fault, ()))
    if evidence.flow is None and evidence.diverged is None:
        found.unseen = (
            "the layers were not recorded, which takes fit(…, callbacks=[GradientFlow()])"
        )
    return found


# --- the faults -----------------------------------------------------------------------------------


def divergence(evidence: Evidence) -> Finding | None:
    """A loss or a parameter that is not finite."""
    if evidence.diverged is None:
        return None
    if evidence.flow is None and not evidence.losses:
        cause, cures = (
            f"it {evidence.diverged}, before any step: weights, inputs or targets are too large",
            (INIT, NORMALISE),
        )
    else:
        update = evidence.updates[0] if evidence.flow is not None else 0.0
        cause = (
            f"it {evidence.diverged}: steps were too long for the slope, "
            "and each made the next longer"
        )
        cures = (
            *learning_rate(evidence, GOOD_UPDATE / update if update > GOOD_UPDATE else 0.01),
            CLIP,
            NORMALISE,
        )
    return Finding("divergence", (), "loss", math.inf, math.inf, cause, fitting(evidence, cures))


def symmetry(evidence: Evidence) -> Finding | None:
    """Units with the same weights and the same gradient, which stay the same."""
    if evidence.flow is None:
        return None
    if evidence.copies is None:
        # Records show no more than weights of zero, from a layer up to the output.
        zero = evidence.flow.weight_norm[0] == 0
        hidden = np.array([zero[i:].all() for i in range(len(zero) - 1)], float)
    else:
        hidden = evidence.copies[:-1]
    layers = evidence.names(np.flatnonzero(hidden >= SYMMETRIC))
    if not layers:
        return None
    cause = (
        "units with equal weights have equal gradients and stay equal for ever, "
        "as after initialisation with zeros"
    )
    figure = "the largest fraction of units that are copies of another"
    return Finding(
        "symmetric units",
        layers,
        figure,
        float(hidden.max()),
        SYMMETRIC,
        cause,
        fitting(evidence, (INIT, RELU)),
    )


def explosion(evidence: Evidence) -> Finding | None:
    """Gradients that are large relative to the weights, before anything was learnt."""
    if evidence.flow is None:
        return None
    relative = evidence.relative_gradients
    layers = evidence.names(np.flatnonzero(relative > EXPLODING))
    figure = "the largest gradient over its weight, ‖∂C/∂W‖/‖W‖"
    if not layers and not (evidence.targets_unscaled and not evidence.learnt):
        return None
    growth = _per_layer(evidence.flow.activation_variance[0], 0.5)
    if evidence.targets_unscaled and not layers:
        cause = (
            f"the targets have a root mean square of {evidence.flow.target_scale:.3g}, "
            "far from where outputs start"
        )
        relative, layers = relative * evidence.flow.target_scale, evidence.flow.layers
    elif evidence.inputs_unscaled:
        cause = (
            f"the inputs have a root mean square of {evidence.flow.input_scale:.3g}, "
            "which every gradient is multiplied by"
        )
    elif growth > 1.5:
        cause = f"activations grow {growth:.3g}× per layer, and gradients with them"
    else:
        cause = "weights, or the activations that they multiply, are too large"
    cures = fitting(evidence, (INIT, NORMALISE, CLIP))
    return Finding(
        "exploding gradient", tuple(layers), figure, float(relative.max()), EXPLODING, cause, cures
    )


def large_steps(evidence: Evidence) -> Finding | None:
    """A learning rate too large: steps overshoot, and the loss does not come down."""
    if (
        evidence.flow is None
        or not evidence.losses
        or evidence.learnt
        or isinstance(evidence.optimizer, LBFGS)
    ):
        return None
    update = evidence.first_updates
    threshold = LARGE_UPDATE if evidence.fall >= FLAT else LARGE_UPDATE_WITHOUT_FALL
    healthy_start = (
        not (evidence.flow.dead[0] > DEAD).any()
        and not (evidence.flow.saturated[0, :-1] > SATURATED).any()
    )
    if update <= threshold or not healthy_start:
        return None
    cause = "steps this long jump across the valley that they should follow down"
    cures = (*learning_rate(evidence, GOOD_UPDATE / update), ADAM, CLIP)
    return Finding(
        "learning rate too large",
        (),
        "‖ΔW‖/‖W‖ of a step",
        update,
        threshold,
        cause,
        fitting(evidence, cures),
    )


def dead_units(evidence: Evidence) -> Finding | None:
    """ReLU units whose output is 0 for every sample, and which get no gradient."""
    if evidence.flow is None:
        return None
    dead = evidence.latest("dead")
    numbers = np.flatnonzero(dead > DEAD)
    if not numbers.size:
        return None
    cause = "a ReLU unit whose z is negative for every sample has no gradient and cannot come back"
    if numbers[0] == len(dead) - 1:
        cause, cures = (
            "the output is a ReLU that is off for every sample: it can answer 0 and nothing else",
            (LINEAR_OUTPUT,),
        )
    elif not (evidence.flow.dead[0] > DEAD).any():
        cause += "; long steps have driven them there"
        cures = (*learning_rate(evidence, 0.1), LEAKY_RELU, NORMALISE)
    elif evidence.gain < SMALL_GAIN:
        cause += (
            f"; weights that make outputs {evidence.gain:.2g} times as large as inputs "
            "lose the signal on the way"
        )
        cures = (INIT, LEAKY_RELU, NORMALISE)
    else:
        cause += "; their biases or weights start too far on the negative side"
        cures = (LEAKY_RELU, NORMALISE)
    figure = "the largest fraction of dead units"
    return Finding(
        "dead ReLU",
        evidence.names(numbers),
        figure,
        float(np.nanmax(dead)),
        DEAD,
        cause,
        fitting(evidence, cures),
    )


def vanishing(evidence: Evidence) -> Finding | None:
    """Learning speed that falls from the output towards the input."""
    if evidence.flow is None or len(evidence.flow.layers) < 3 or evidence.learnt:
        return None
    speed, gradient = evidence.latest("learning_speed"), evidence.latest("gradient_norm")
    # Behind a normalisation, which makes up for the size of weights, shifts may be slow and weights
    # not. A speed of exactly 0 is that of a layer before a weight of zeros, which the first step
    # changes.
    weights_too = ~np.array(evidence.flow.normalised) | (gradient * SMALL_GRADIENT < gradient[-1])
    slow = np.flatnonzero((speed > 0) & (speed * VANISHING < speed[-1]) & weights_too)
    if not slow.size:
        return None
    flat = [
        name for name in dict.fromkeys(evidence.flow.activations[:-1]) if variants.saturates(name)
    ]
    if flat:
        why, cures = (
            f"{', '.join(flat)} multiplies the gradient by its small slope in each",
            (RELU, NORMALISE, SHORTCUTS),
        )
    elif evidence.gain < SMALL_GAIN:
        why = (
            f"weights that make outputs {evidence.gain:.2g} times as large as inputs "
            "lose the signal"
        )
        cures = (INIT, NORMALISE, SHORTCUTS)
    else:
        why, cures = "each of so many layers loses a little of it", (NORMALISE, SHORTCUTS)
    cause = f"learning speed falls {_per_layer(speed, 1.0):.3g}× per layer: {why}"
    figure, fall = (
        "learning speed of the output over the slowest layer's",
        float(speed[-1] / speed[slow].min()),
    )
    return Finding(
        "vanishing gradient",
        evidence.names(slow),
        figure,
        fall,
        VANISHING,
        cause,
        fitting(evidence, cures),
    )


def saturation(evidence: Evidence) -> Finding | None:
    """Units on the flat ends of their activation, from the start or while nothing is learnt.

    Units that have learnt may well be there.
    """
    if evidence.flow is None or evidence.trained:
        return None
    saturated = evidence.latest("saturated")[:-1]
    born = evidence.flow.saturated[0, :-1] > SATURATED
    layers = evidence.names(
        np.flatnonzero((saturated > SATURATED) & (born | (not evidence.learnt)))
    )
    if not layers:
        return None
    cause = "z is so large that the activation is flat there, and its slope almost 0"
    deep = len(evidence.flow.layers) > 3  # smaller weights would then make the gradient vanish
    cures = (RELU, NORMALISE, INIT) if deep else (INIT, NORMALISE, RELU)
    figure = "the largest fraction of outputs in the outer 5 % of the range"
    return Finding(
        "saturation",
        layers,
        figure,
        float(np.nanmax(saturated)),
        SATURATED,
        cause,
        fitting(evidence, cures),
    )


def small_steps(evidence: Evidence) -> Finding | None:
    """A learning rate too small: loss and weights hardly move, though there is a slope."""
    if (
        evidence.flow is None
        or not evidence.losses
        or evidence.learnt
        or isinstance(evidence.optimizer, LBFGS)
    ):
        return None
    update = float(np.median(evidence.updates))
    if update >= SMALL_UPDATE or evidence.fall >= FLAT or evidence.at_rest:
        return None
    cause = "weights hardly move, and the loss hardly falls"
    cures = (*learning_rate(evidence, GOOD_UPDATE / update if update > 0 else 1e3), ADAM)
    return Finding(
        "learning rate too small",
        (),
        "‖ΔW‖/‖W‖ of a step",
        update,
        SMALL_UPDATE,
        cause,
        fitting(evidence, cures),
    )


def stagnation(evidence: Evidence) -> Finding | None:
    """The loss does not fall though there is a slope, and no layer is plainly broken."""
    if (
        evidence.flow is None
        or len(evidence.losses) < 3
        or evidence.learnt
        or evidence.fall >= FLAT
        or evidence.at_rest
    ):
        return None
    flat = any(variants.saturates(name) for name in evidence.flow.activations[:-1])
    if evidence.inputs_unscaled:
        cause, cures = f"the inputs have a root mean square of {evidence.flow.input_scale:.3g}", ()
    elif variants.saturates(evidence.flow.activations[-1]):
        cause, cures = (
            "the output's activation has flat ends, and may not reach the targets at all",
            (LINEAR_OUTPUT,),
        )
    elif flat:
        cause, cures = (
            "gradients shrink through flat activations, though no layer stands still",
            (RELU, NORMALISE),
        )
    else:
        cause, cures = "no layer is plainly broken; another optimiser may find a way", ()
    cures = fitting(evidence, (*cures, ADAM, NORMALISE))
    return Finding(
        "no progress", (), "the fraction by which the loss fell", evidence.fall, FLAT, cause, cures
    )


def overfitting(evidence: Evidence) -> Finding | None:
    """The loss on validation data rises again while that on training data falls."""
    losses, training = np.asarray(evidence.validation_losses), np.asarray(evidence.losses)
    if len(losses) < 3:
        return None
    best = int(losses.argmin())
    rise = float(losses[-1] / losses[best]) if losses[best] > 0 else 1.0
    if rise < OVERFITTING or training[-1] >= training[best]:
        return None
    cause = (
        f"after epoch {best + 1} it learnt what is peculiar to the training data: "
        f"the loss there fell on to {training[-1]:.3g}"
    )
    cures = fitting(evidence, (STOP_EARLY, L2, DROPOUT))
    return Finding(
        "overfitting", (), "validation loss over its best", rise, OVERFITTING, cause, cures
    )


def _per_layer(values: np.ndarray, power: float) -> float:
    """The factor by which positive values change from a layer to the next, geometric mean."""
    some = np.flatnonzero(values > 0)
    if len(some) < 2:
        return 1.0
    return float((values[some[-1]] / values[some[0]]) ** (power / (some[-1] - some[0])))


# Name → function, the gravest fault first.
FAULTS: dict[str, Callable[[Evidence], Finding | None]] = {
    "divergence": divergence,
    "symmetric units": symmetry,
    "exploding gradient": explosion,
    "learning rate too large": large_steps,
    "dead ReLU": dead_units,
    "vanishing gradient": vanishing,
    "saturation": saturation,
    "learning rate too small": small_steps,
    "no progress": stagnation,
    "overfitting": overfitting,
}
_NO_LEARNING = ("learning rate too small", "no progress")
# Fault → others that follow from it.
BRINGS_ABOUT: dict[str, tuple[str, ...]] = {
    "divergence": (
        "learning rate too large",
        "dead ReLU",
        "vanishing gradient",
        "saturation",
        "no progress",
    ),
    "symmetric units": (
        "learning rate too large",
        "dead ReLU",
        "vanishing gradient",
        *_NO_LEARNING,
    ),
    "exploding gradient": (
        "learning rate too large",
        "dead ReLU",
        "vanishing gradient",
        "saturation",
        *_NO_LEARNING,
    ),
    "learning rate too large": ("dead ReLU", "vanishing gradient", "saturation", *_NO_LEARNING),
    "dead ReLU": ("vanishing gradient", *_NO_LEARNING),
    "vanishing gradient": _NO_LEARNING,
    "saturation": _NO_LEARNING,
    "learning rate too small": ("no progress",),
}
