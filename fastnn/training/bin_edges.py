"""Edges of the bins of `PiecewiseLinear`, from the first data that a network is trained on."""

import numpy as np

from fastnn._kernels import opcodes
from fastnn.nn.feature_layers import edge_table, quantile_edges
from fastnn.nn.protocol import NetworkProtocol
from fastnn.training.samples import TrainingData


def set_missing(net: NetworkProtocol, data: TrainingData) -> None:
    """Give every `PiecewiseLinear` without edges those of the rows to train on."""
    for op in net.program.ops:
        if op["code"] != opcodes.PIECEWISE:
            continue
        features, bins, first = int(op["features"]), int(op["bins"]), int(op["state"])
        table = net.state.buffers[first : first + features * (bins + 2)]
        if not table.any():
            X = data.samples.X
            X = X if isinstance(X, np.ndarray) else X.to_host()  # a `GpuArray`
            X = X[data.indices, :features]
            table[:] = edge_table(quantile_edges(X, bins), bins).reshape(-1)
