"""The program that `sanitize.sh` checks: training, gradients and predictions on one path."""

import sys

import numpy as np
from builders import LOSS_CASES, features, optimizer, sample_weights, targets
from gpu_cases import BACKEND, BOTH

import fastnn as fnn
from fastnn.training.samples import checked_samples


def main():
    layers, rows = BOTH[sys.argv[1]], 23
    for dtype in ("float32", "float64"):
        for rule, loss in (
            ("adam", "softmax_cross_entropy"),
            ("nesterov", "quadratic"),
            ("nadam", "soft targets"),
        ):
            net = fnn.Network(layers, 4, LOSS_CASES[loss][0], dtype, BACKEND)
            X, y = features(rows), targets(LOSS_CASES[loss][1], rows)
            options = {"clip_norm": 1.0, "weight_decay": 0.01}
            net.fit(
                X,
                y,
                epochs=2,
                batch_size=6,
                optimizer=optimizer(rule, **options),
                sample_weight=sample_weights(rows),
                callbacks=[fnn.GradientFlow(every=1)],
                progress=False,
            )
            net.engine.evaluate(net.state, checked_samples(net, X, y))
            net.gradients(X, y, training=True)
            assert np.isfinite(net.predict(features(37))).all()
    print(f"{sys.argv[1]}: done")


if __name__ == "__main__":
    main()
