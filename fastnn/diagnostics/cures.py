"""The cures that findings offer."""

import math
from collections.abc import Sequence
from dataclasses import replace

from fastnn.callbacks import EarlyStopping
from fastnn.diagnostics import variants
from fastnn.diagnostics.evidence import Evidence
from fastnn.diagnostics.findings import Cure
from fastnn.nn.layers import BatchNorm, Layer
from fastnn.optim.optimizers import LBFGS, Adam, as_call


def _relu_and_he(layers: Sequence[Layer]) -> list[Layer]:
    return variants.with_init(variants.with_activation(layers, "relu"), "he_normal")


def _leaky_and_he(layers: Sequence[Layer]) -> list[Layer]:
    return variants.with_init(variants.with_activation(layers, "leaky_relu"), "he_normal")


def _inputs_normalised(layers: Sequence[Layer]) -> list[Layer]:
    return [BatchNorm(), *layers]


RELU = Cure("activation='relu' with init='he_normal' in every hidden layer", _relu_and_he)
LEAKY_RELU = Cure(
    "activation='leaky_relu' with init='he_normal' and bias_init='zeros': no unit can die",
    _leaky_and_he,
)
INIT = Cure(
    "init='auto' and bias_init='zeros': "
    "He for ReLU and its kin, LeCun for SELU, Glorot for the rest",
    lambda layers: variants.with_init(layers, "auto"),
)
NORMALISE = Cure("BatchNorm() between each hidden product and its activation", variants.with_norm)
SHORTCUTS = Cure(
    "Residual([…]) around each hidden layer as wide as its input", variants.with_shortcuts
)
LINEAR_OUTPUT = Cure("activation='linear' in the last layer", variants.with_linear_output)
STANDARDISE = Cure(
    "inputs scaled to mean 0 and variance 1: "
    "fastnn.data.Standardizer, or BatchNorm() as the first layer",
    _inputs_normalised,
)
STANDARDISE_TARGETS = Cure(
    "targets scaled to mean 0 and variance 1: fastnn.data.Standardizer for y, undone on predictions"
)
CLIP = Cure(
    "clip_norm=1.0 in the optimizer, and its learning rate at 1e-3: Adam(lr=1e-3, clip_norm=1.0)",
    fit={"optimizer": Adam(1e-3, clip_norm=1.0)},
)
ADAM = Cure(
    "optimizer=Adam(lr=1e-3), which steps by the gradient's sign and history, not by its size",
    fit={"optimizer": Adam(1e-3)},
)
DROPOUT = Cure(
    "Dropout(0.3) after each hidden layer", lambda layers: variants.with_dropout(layers, 0.3)
)
L2 = Cure("l2=1e-4 on every Dense layer", lambda layers: variants.with_l2(layers, 1e-4))
STOP_EARLY = Cure(
    "callbacks=[EarlyStopping(patience=3)] with validation data",
    fit={"callbacks": (EarlyStopping(patience=3),)},
)


def learning_rate(evidence: Evidence, factor: float) -> tuple[Cure, ...]:
    """The optimiser with its learning rate times ``factor``, to one digit.

    Nothing where the optimiser has no rate, or the rate would stay the same.
    """
    optimizer = evidence.optimizer
    if optimizer is None or isinstance(optimizer, LBFGS) or not 0 < factor < math.inf:
        return ()
    if not isinstance(optimizer.lr, int | float):
        return (Cure(f"a schedule with rates {factor:.1g} times as large"),)
    lr = float(f"{optimizer.lr * factor:.1g}")
    if lr in (0.0, optimizer.lr):
        return ()
    changed = replace(optimizer, lr=lr)
    return (
        Cure(
            f"optimizer={as_call(changed)}, its learning rate now being {optimizer.lr:g}",
            fit={"optimizer": changed},
        ),
    )


def fitting(evidence: Evidence, cures: Sequence[Cure]) -> tuple[Cure, ...]:
    """The cures without those that change nothing.

    Scaling of inputs or targets comes first where their scale is a cause.
    """
    first = [
        cure
        for cure, needed in (
            (STANDARDISE, evidence.inputs_unscaled),
            (STANDARDISE_TARGETS, evidence.targets_unscaled),
        )
        if needed
    ]
    others = [cure for cure in cures if cure not in first]
    return tuple(cure for cure in [*first, *others] if _changes(cure, evidence))


def _changes(cure: Cure, evidence: Evidence) -> bool:
    """Whether a cure is more than what there is already, as far as that is known."""
    same_layers = cure.layers is None or (
        evidence.layers is not None
        and repr(cure.change_layers(evidence.layers)) == repr(list(evidence.layers))
    )
    optimizer = cure.fit.get("optimizer")
    same_fit = not cure.fit or (optimizer is not None and optimizer == evidence.optimizer)
    in_words = cure.layers is None and not cure.fit
    return in_words or not (same_layers and same_fit)
