"""Why a network does not learn, in words: faults, the figures that show them, and cures.

`Network.diagnose` and `History.diagnose` gather `Evidence` and put the same questions to it, the gravest fault first: a dead or symmetric
layer has no gradient that could vanish, so it is named before.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastnn import variants
from fastnn.callbacks import EarlyStopping
from fastnn.findings import Cure, Diagnosis, Finding
from fastnn.flow import Flow
from fastnn.layers import BatchNorm, Layer
from fastnn.optimizers import LBFGS, Adam, Optimizer, as_call

# Where a fault begins. The figures lie between those of the healthy and of the broken networks in tests/test_diagnosis.py.
VANISHING = 100.0  # times that the learning speed falls from the output to the first layer
SMALL_GRADIENT = 5.0  # times that ‖∂C/∂W‖ is smaller than the output's, at least
EXPLODING = 30.0  # ‖∂C/∂W‖ over ‖W‖
DEAD = 0.7  # share of a layer's units
SATURATED = 0.5  # share of a layer's outputs
SYMMETRIC = 0.5  # share of a layer's units that are copies of another
LARGE_UPDATE = 0.3  # ‖ΔW‖ over ‖W‖ of a step
SMALL_UPDATE = 1e-4
FLAT = 0.05  # share by which the loss has to fall at least
OVERFITTING = 1.15  # loss on validation data over its best
GOOD_UPDATE = 3e-3  # what a new learning rate aims at
SMALL_GAIN = 0.6  # ‖W‖ over √units: 1 keeps the size of a signal in linear layers, √2 in ReLU ones
_FIRST = 5  # records that tell how long the first steps were


@dataclass(frozen=True)
class Evidence:
    """What there is to look at; ``None`` where it is not known.

    Attributes
    ----------
    flow : Flow
        At least one record.
    copies : ndarray (layers,)
        Share of a layer's units whose weights and bias, and the gradients of them, are those of another one.
    input_scale : float
        Root mean square of the inputs.
    losses, validation_losses : sequence of float
        By epoch.
    optimizer : Optimizer or LBFGS
    diverged : str
        Where training diverged.
    """

    flow: Flow | None = None
    copies: np.ndarray | None = None
    input_scale: float | None = None
    losses: Sequence[float] = ()
    validation_losses: Sequence[float] = ()
    optimizer: Optimizer | LBFGS | None = None
    diverged: str | None = None

    def latest(self, figure: str) -> np.ndarray:
        """The figure of each layer, median over the last half of the records."""
        records = getattr(self.flow, figure)
        return np.median(records[len(records) // 2 :], axis=0)


def find_faults(evidence: Evidence) -> Diagnosis:
    """The faults of which the evidence tells, but for those that another one brings about."""
    found, explained = Diagnosis(), set()
    for fault, find in FAULTS.items():
        finding = None if fault in explained else find(evidence)
        if finding is not None:
            found.append(finding)
            explained.update(BRINGS_ABOUT.get(fault, ()))
    return found


# --- cures that several faults share --------------------------------------------------------------------------------------------------


def _relu_and_he(layers: Sequence[Layer]) -> list[Layer]:
    return variants.with_init(variants.with_activation(layers, "relu"), "he_normal")


def _leaky_and_he(layers: Sequence[Layer]) -> list[Layer]:
    return variants.with_init(variants.with_activation(layers, "leaky_relu"), "he_normal")


def _fitting_init(layers: Sequence[Layer]) -> list[Layer]:
    return variants.with_init(layers, "auto")


def _inputs_normalised(layers: Sequence[Layer]) -> list[Layer]:
    return [BatchNorm(), *layers]


RELU = Cure("activation='relu' with init='he_normal' in every hidden layer", _relu_and_he)
LEAKY_RELU = Cure("activation='leaky_relu' with init='he_normal' and bias_init='zeros': no unit can die", _leaky_and_he)
INIT = Cure("init='auto' and bias_init='zeros': He for ReLU and its kin, LeCun for SELU, Glorot for the rest", _fitting_init)
NORMALISE = Cure("BatchNorm() between each hidden product and its activation", variants.with_norm)
SHORTCUTS = Cure("Residual([…]) around each hidden layer as wide as its input", variants.with_shortcuts)
STANDARDISE = Cure(
    "inputs scaled to mean 0 and variance 1: fastnn.data.Standardizer, or BatchNorm() as the first layer", _inputs_normalised
)
CLIP = Cure(
    "clip_norm=1.0 in the optimizer, and its learning rate at 1e-3: Adam(lr=1e-3, clip_norm=1.0)",
    fit={"optimizer": Adam(1e-3, clip_norm=1.0)},
)
ADAM = Cure("optimizer=Adam(lr=1e-3), which steps by the gradient's sign and history, not by its size", fit={"optimizer": Adam(1e-3)})
DROPOUT = Cure("Dropout(0.3) after each hidden layer", lambda layers: variants.with_dropout(layers, 0.3))
L2 = Cure("l2=1e-4 on every Dense layer", lambda layers: variants.with_l2(layers, 1e-4))
STOP_EARLY = Cure("callbacks=[EarlyStopping(patience=3)] with validation data", fit={"callbacks": (EarlyStopping(patience=3),)})


# --- the questions ------------------------------------------------------------------------------------------------------------------------


def divergence(evidence: Evidence) -> Finding | None:
    """Training met a loss or a parameter that is not finite."""
    if evidence.diverged is None:
        return None
    update = _updates(evidence)[0] if evidence.flow is not None else 0.0
    cures = (*_slower(evidence, GOOD_UPDATE / update if update > GOOD_UPDATE else 0.01), CLIP, NORMALISE)
    cause = f"it {evidence.diverged}: steps were too long for the slope, and each made the next longer"
    return Finding("divergence", (), "loss", math.inf, math.inf, cause, _scaled_first(evidence, cures))


def symmetry(evidence: Evidence) -> Finding | None:
    """Units with the same weights and the same gradient stay the same for ever."""
    if evidence.flow is None:
        return None
    zero = evidence.flow.weight_norm[0] == 0
    hidden = (zero.astype(float) if evidence.copies is None else evidence.copies)[:-1]
    layers = _names(evidence, np.flatnonzero(hidden >= SYMMETRIC))
    if not layers:
        return None
    cause = "units with equal weights have equal gradients and stay equal for ever, as after initialisation with zeros"
    figure = "the largest share of units that are copies of another"
    return Finding("symmetric units", layers, figure, float(hidden.max()), SYMMETRIC, cause, (INIT, RELU))


def dead_units(evidence: Evidence) -> Finding | None:
    """ReLU units that put out 0 for every sample get no gradient."""
    if evidence.flow is None:
        return None
    dead = evidence.latest("dead")
    layers = _names(evidence, np.flatnonzero(dead > DEAD))
    if not layers:
        return None
    cause = "a ReLU unit whose z is negative for every sample has no gradient and cannot come back"
    born = bool((evidence.flow.dead[0] > DEAD).any())
    cause += "; their biases or weights start too far on the negative side" if born else "; long steps have driven them there"
    cures = (LEAKY_RELU, NORMALISE) if born else (*_slower(evidence, 0.1), LEAKY_RELU, NORMALISE)
    return Finding(
        "dead ReLU", layers, "the largest share of dead units", float(np.nanmax(dead)), DEAD, cause, _scaled_first(evidence, cures)
    )


def explosion(evidence: Evidence) -> Finding | None:
    """Gradients that are large beside the weights, before anything was learnt."""
    if evidence.flow is None:
        return None
    relative = _relative_gradients(evidence)
    layers = _names(evidence, np.flatnonzero(relative > EXPLODING))
    if not layers:
        return None
    growth = _per_layer(evidence.flow.activation_variance[0], 0.5)
    cause = f"activations grow {growth:.3g}× per layer, and gradients with them" if growth > 1 else "gradients grow on their way back"
    if _unscaled(evidence):
        cause = f"the inputs have a root mean square of {evidence.input_scale:.3g}, which every gradient is multiplied by"
    figure = "the largest gradient over its weight, ‖∂C/∂W‖/‖W‖"
    return Finding(
        "exploding gradient", layers, figure, float(relative.max()), EXPLODING, cause, _scaled_first(evidence, (INIT, NORMALISE, CLIP))
    )


def vanishing(evidence: Evidence) -> Finding | None:
    """Learning speed that falls from the output towards the input."""
    if evidence.flow is None or len(evidence.flow.layers) < 3:
        return None
    speed, gradient = evidence.latest("learning_speed"), evidence.latest("gradient_norm")
    # Behind a normalisation, which makes up for the size of weights, shifts may be slow and weights not.
    weights_too = ~np.array(evidence.flow.normalised) | (gradient * SMALL_GRADIENT < gradient[-1])
    slow = np.flatnonzero((speed * VANISHING < speed[-1]) & weights_too)
    if not slow.size:
        return None
    fall = float(speed[-1] / speed[slow].min()) if speed[slow].min() > 0 else math.inf
    per_layer = _per_layer(speed, 1.0)
    flat = [name for name in dict.fromkeys(evidence.flow.activations[:-1]) if variants.saturates(name)]
    gain = np.median(evidence.flow.weight_norm[0] / np.sqrt(evidence.flow.units))
    cause = f"learning speed falls {per_layer:.3g}× per layer: "
    if flat:
        cause += f"{', '.join(flat)} multiplies the gradient by its small slope in each"
        cures = (RELU, NORMALISE, SHORTCUTS)
    elif gain < SMALL_GAIN:
        cause += f"weights that make outputs {gain:.2g} times as large as inputs lose the signal"
        cures = (INIT, NORMALISE, SHORTCUTS)
    else:
        cause += "each of so many layers loses a little of it"
        cures = (NORMALISE, SHORTCUTS)
    names = _names(evidence, slow)
    return Finding("vanishing gradient", names, "learning speed of the output over the slowest layer's", fall, VANISHING, cause, cures)


def saturation(evidence: Evidence) -> Finding | None:
    """Units on the flat ends of their activation."""
    if evidence.flow is None:
        return None
    saturated = evidence.latest("saturated")[:-1]
    layers = _names(evidence, np.flatnonzero(saturated > SATURATED))
    if not layers:
        return None
    cause = "z is so large that the activation is flat there, and its slope almost 0"
    deep = len(evidence.flow.layers) > 3  # smaller weights would then make the gradient vanish
    cures = _scaled_first(evidence, (RELU, NORMALISE, INIT) if deep else (INIT, NORMALISE, RELU))
    figure = "the largest share of outputs in the outer 5 % of the range"
    return Finding("saturation", layers, figure, float(np.nanmax(saturated)), SATURATED, cause, cures)


def large_steps(evidence: Evidence) -> Finding | None:
    """A learning rate too large: steps overshoot."""
    if evidence.flow is None or not evidence.losses:
        return None
    update = _first_updates(evidence)
    threshold = LARGE_UPDATE if _fall(evidence.losses) >= FLAT else 10 * GOOD_UPDATE
    healthy_start = not (evidence.flow.dead[0] > DEAD).any() and not (evidence.flow.saturated[0, :-1] > SATURATED).any()
    if update <= threshold or not healthy_start:
        return None
    cause = "steps this long jump across the valley that they should follow down"
    cures = (*_slower(evidence, GOOD_UPDATE / update), ADAM, CLIP)
    return Finding("learning rate too large", (), "‖ΔW‖/‖W‖ of a step", update, threshold, cause, cures)


def small_steps(evidence: Evidence) -> Finding | None:
    """A learning rate too small: the loss hardly falls, and weights hardly move."""
    if evidence.flow is None or not evidence.losses:
        return None
    update = float(np.median(_updates(evidence)))
    if update >= SMALL_UPDATE or _fall(evidence.losses) >= FLAT:
        return None
    cause = "weights hardly move, and the loss hardly falls"
    cures = (*_slower(evidence, GOOD_UPDATE / update if update > 0 else 1e3), ADAM)
    return Finding("learning rate too small", (), "‖ΔW‖/‖W‖ of a step", update, SMALL_UPDATE, cause, cures)


def overfitting(evidence: Evidence) -> Finding | None:
    """The loss on validation data rises again while that on training data falls."""
    losses, seen = np.asarray(evidence.validation_losses), np.asarray(evidence.losses)
    if len(losses) < 3:
        return None
    best = int(losses.argmin())
    rise = float(losses[-1] / losses[best]) if losses[best] > 0 else 1.0
    if rise < OVERFITTING or seen[-1] >= seen[best]:
        return None
    cause = f"after epoch {best + 1} it learnt what is peculiar to the training data: the loss there fell on to {seen[-1]:.3g}"
    return Finding("overfitting", (), "validation loss over its best", rise, OVERFITTING, cause, (STOP_EARLY, L2, DROPOUT))


# Name → the question, the gravest first.
FAULTS: dict[str, Callable[[Evidence], Finding | None]] = {
    "divergence": divergence,
    "symmetric units": symmetry,
    "exploding gradient": explosion,
    "learning rate too large": large_steps,
    "dead ReLU": dead_units,
    "vanishing gradient": vanishing,
    "saturation": saturation,
    "learning rate too small": small_steps,
    "overfitting": overfitting,
}
# Fault → others that follow from it.
BRINGS_ABOUT: dict[str, tuple[str, ...]] = {
    "divergence": ("learning rate too large", "dead ReLU", "vanishing gradient", "saturation"),
    "symmetric units": ("learning rate too large", "dead ReLU", "vanishing gradient", "learning rate too small"),
    "exploding gradient": ("learning rate too large", "dead ReLU", "vanishing gradient", "saturation", "learning rate too small"),
    "learning rate too large": ("dead ReLU", "vanishing gradient", "saturation", "learning rate too small"),
    "dead ReLU": ("vanishing gradient", "learning rate too small"),
    "vanishing gradient": ("learning rate too small",),
    "saturation": ("learning rate too small",),
}


# --- their arithmetic -----------------------------------------------------------------------------------------------------------------


def _names(evidence: Evidence, numbers: np.ndarray) -> tuple[str, ...]:
    return tuple(evidence.flow.layers[i] for i in numbers)


def _per_layer(values: np.ndarray, power: float) -> float:
    """The factor by which values change from a layer to the next, geometric mean over layers with any."""
    some = np.flatnonzero(values > 0)
    if len(some) < 2:
        return math.inf
    return float((values[some[-1]] / values[some[0]]) ** (power / (some[-1] - some[0])))


def _relative_gradients(evidence: Evidence) -> np.ndarray:
    """‖∂C/∂W‖/‖W‖ of each layer at the first record: later ones may tell of steps that were too long."""
    weight = evidence.flow.weight_norm[0]
    return np.divide(evidence.flow.gradient_norm[0], weight, out=np.zeros_like(weight), where=(weight > 0) & np.isfinite(weight))


def _updates(evidence: Evidence) -> np.ndarray:
    """‖ΔW‖/‖W‖ at each record, median over layers: one may well start from zeros."""
    ratios = evidence.flow.update_ratio
    return np.median(np.where(np.isfinite(ratios), ratios, 0.0), axis=1)


def _first_updates(evidence: Evidence) -> float:
    """The largest of the first records: weights that long steps have made large move little later on."""
    return float(_updates(evidence)[:_FIRST].max())


def _fall(losses: Sequence[float]) -> float:
    """The share by which the loss fell."""
    first, last = losses[0], losses[-1]
    return (first - last) / abs(first) if len(losses) > 1 and first else 1.0


def _unscaled(evidence: Evidence) -> bool:
    return evidence.input_scale is not None and evidence.input_scale > 10


def _scaled_first(evidence: Evidence, cures: tuple[Cure, ...]) -> tuple[Cure, ...]:
    """The cures, scaling of the inputs first where that is the cause, and not among them where it is not."""
    others = tuple(cure for cure in cures if cure is not STANDARDISE)
    return (STANDARDISE, *others) if _unscaled(evidence) else others


def _slower(evidence: Evidence, factor: float) -> tuple[Cure, ...]:
    """The optimiser with its learning rate times ``factor``, to one digit."""
    if evidence.optimizer is None or isinstance(evidence.optimizer, LBFGS) or not 0 < factor < math.inf:
        return ()
    now = float(evidence.optimizer.rates(0, 1)[0])
    if now == 0:
        return ()
    lr = float(f"{now * factor:.1g}")
    changed = replace(evidence.optimizer, lr=lr)
    return (Cure(f"optimizer={as_call(changed)}, its learning rate now being {now:g}", fit={"optimizer": changed}),)
