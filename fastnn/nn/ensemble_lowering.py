"""The lowering of a `BatchEnsemble`: members become rows of the products that they share.

A value of k members of width n has width k·n, one member after the other. In memory that is k rows
of width n, so a Dense of all members is one product over k times as many rows. What each member has
of its own is MEMBER_SCALE: z_m = scale_m ⊙ x_m + b_m.
"""

from collections.abc import Iterable
from typing import Any

from fastnn._kernels import opcodes
from fastnn.nn.initializers import FirstScale, OfMembers, SameForAll, of_bias, ones
from fastnn.nn.layers import Activation, BatchEnsemble, Dense, Dropout, Heads, Layer


def batch_ensemble(
    lowering: Any,
    layer: BatchEnsemble,
    x: int,
    width: int,
    name: str,
    following: Iterable[Layer],
) -> tuple[int, int]:
    """Lower an ensemble of value x; returns the new value and its width, that of all members.

    ``lowering`` is the `lowering.Lowering` that holds the tables.
    """
    where = f"layer {name[:-1]} (BatchEnsemble)"
    if name.count(".") > 1 or any(True for _ in following):
        raise ValueError(f"{where}: expected as the last layer of the network")
    groups = layer.groups
    if groups is not None and sum(groups) != width:
        raise ValueError(f"{where}: groups add up to {sum(groups)}, but its input has {width}")
    lowering.members = layer.members
    first = FirstScale(layer.start, groups)
    x = _scale(lowering, layer, x, width, f"{name}r", init=first, repeats=True)
    width *= layer.members
    for i, inner in enumerate(layer.layers):
        inner_name = f"{name}{i}."
        behind = layer.layers[i + 1 :]
        if isinstance(inner, Dense):
            if i > 0 and layer.scaling == "all":
                x = _scale(lowering, layer, x, width // layer.members, f"{inner_name}r")
            x, width = _dense(lowering, layer, inner, x, width, inner_name, behind)
        elif isinstance(inner, Heads):
            x, width = _heads(lowering, layer, inner, x, width, inner_name)
        elif isinstance(inner, Dropout):
            x, width = lowering.dropout(inner, x, width, inner_name, behind)
        elif isinstance(inner, Activation):
            x, width = lowering.activation(inner, x, width, inner_name, behind)
    return x, width


def _scale(
    lowering: Any,
    layer: BatchEnsemble,
    x: int,
    width: int,
    name: str,
    init: Any = None,
    repeats: bool = False,
) -> int:
    """scale_m ⊙ x_m, ``width`` columns a member; x is the same for all where it ``repeats``."""
    members = layer.members
    n_out = members * width
    fields = {
        "members": members,
        "member_in": width,
        "weight": lowering.parameter(name, (members, width), "scale", init or ones),
        "weight_rate": layer.lr_factor,
        "weight_decay": layer.decay_factor,
        "column_stats": lowering.scratch(2 * n_out),
    }
    n_in = width if repeats else n_out
    return lowering.emit(opcodes.MEMBER_SCALE, x, n_in, n_out, **fields)


def _dense(
    lowering: Any,
    ensemble: BatchEnsemble,
    layer: Dense,
    x: int,
    width: int,
    name: str,
    following: Iterable[Layer],
) -> tuple[int, int]:
    """The shared product, and each member's s and b behind it where it has them."""
    members, n_in, units = ensemble.members, width // ensemble.members, layer.units
    own = ensemble.scaling == "all"
    fields = lowering.dense_fields(layer, n_in, name, following, bias=not own)
    y = lowering.emit(opcodes.DENSE, x, width, members * units, members=members, **fields)
    if own:
        y = _scale(lowering, ensemble, y, units, f"{name}s")
        if layer.bias:
            start, shape = SameForAll(of_bias(layer.bias_init, n_in)), (members, units)
            scale = lowering.ops[-1]
            scale["bias"] = lowering.parameter(f"{name}bias", shape, "bias", start)
            scale["bias_rate"] = layer.bias_lr_factor
    width = members * units
    return lowering.activate(y, width, layer.activation, name), width


def _heads(
    lowering: Any, ensemble: BatchEnsemble, layer: Heads, x: int, width: int, name: str
) -> tuple[int, int]:
    members, n_in = ensemble.members, width // ensemble.members
    shape = (members, n_in, layer.units)
    fields = {
        "members": members,
        "weight": lowering.parameter(f"{name}weight", shape, "weight", layer.init),
        "weight_rate": layer.lr_factor,
        "weight_decay": layer.decay_factor,
        "bias_rate": layer.bias_lr_factor,
    }
    if layer.bias:
        start = OfMembers(of_bias(layer.bias_init, n_in))
        fields["bias"] = lowering.parameter(f"{name}bias", (members, layer.units), "bias", start)
    n_out = members * layer.units
    return lowering.emit(opcodes.HEADS, x, width, n_out, **fields), n_out


def misplaced_heads(
    lowering: Any, layer: Heads, x: int, width: int, name: str, following: Iterable[Layer]
) -> tuple[int, int]:
    """The lowering of heads anywhere else: a ValueError."""
    raise ValueError(f"layer {name[:-1]} (Heads): expected as the last of a BatchEnsemble")
