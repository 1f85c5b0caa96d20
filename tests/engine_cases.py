"""Training runs that tests of the engines share."""

import pytest
from builders import LOSS_CASES, STEPPING, features, targets

import fastnn as fnn

ROWS, BATCH = 23, 6  # three mini-batches and a last one of five
each_optimizer = pytest.mark.parametrize("name", STEPPING)
# Options that optimisers share → their arguments.
OPTIONS = {
    "plain": {},
    "weight decay": {"weight_decay": 0.1},
    "clip value": {"clip_value": 0.02},
    "clip norm": {"clip_norm": 0.05},
    "schedule": {"lr": fnn.Warmup(3, fnn.Cosine(0.01, 12, 0.001))},
    "schedule of weight decay": {"weight_decay": fnn.FlatCosine(0.3, 16, 0.25)},
    "schedules and clip norm": {
        "lr": fnn.Exponential(0.02, 0.9),
        "weight_decay": fnn.Warmup(7, 0.2),
        "clip_norm": 0.2,
    },
    "all": {
        "weight_decay": 0.05,
        "clip_value": 0.1,
        "clip_norm": 0.2,
        "lr": fnn.Exponential(0.02, 0.9),
    },
}


def train(net, optimizer, epochs=5, rows=ROWS, **options):
    """20 steps of 6, 6, 6 and 5 samples."""
    y = targets(LOSS_CASES[net.loss.name][1], rows)
    net.fit(features(rows), y, epochs=epochs, batch_size=BATCH, optimizer=optimizer, **options)
    return net
