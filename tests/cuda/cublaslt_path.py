"""Trains networks whose products are cuBLASLt's: a program, run by test_cublaslt_path.

It uses the simulator, whose memory is the host's, and a stand-in for the library that works on host
memory. The plan leaves every product to cuBLASLt.
"""

import contextlib

import fake_cublaslt
import numpy as np
from builders import INPUTS, OUTPUTS, features, flat, relative_error, sample_weights, targets

import fastnn as fnn
from fastnn._kernels.numba_cuda import engine
from fastnn._kernels.numba_cuda.driver import simulator
from fastnn._kernels.numba_cuda.runtime import cublaslt, plan

LAYERS = {
    "relu": [fnn.Dense(130, "relu"), fnn.Dense(9, "gelu"), fnn.Dense(OUTPUTS)],
    "no bias": [
        fnn.Dense(130, "tanh", bias=False, l2=0.01),
        fnn.BatchNorm(),
        fnn.Dropout(0.3),
        fnn.Dense(OUTPUTS, bias=False),
    ],
    # The gradient of a BatchNorm's input does not vanish by itself in rows beyond the end of a
    # short mini-batch. The gradient of a bias before it is rounding alone, which Adam would follow.
    "norm after a product": [
        fnn.Dense(9, "sigmoid"),
        fnn.Dense(7, bias=False),
        fnn.BatchNorm(),
        fnn.Dense(OUTPUTS),
    ],
    "residual": [
        fnn.Dense(6),
        fnn.Residual([fnn.Dense(130, "silu"), fnn.Dense(6)]),
        fnn.Dense(7, "sigmoid", max_norm=1.0),
        fnn.Dense(OUTPUTS),
    ],
}
ROWS, BATCH = 11, 4  # the last batch has three


def use_the_stand_in():
    library = fake_cublaslt.Library()
    handle = library.create()
    cublaslt._library, cublaslt._handle = lambda: library, lambda: handle
    simulator.Buffer.pointer = property(lambda buffer: buffer.array.ctypes.data)
    simulator.SimulatedDevice.stream, simulator.SimulatedDevice.working = 0, contextlib.nullcontext
    plan.CUBLASLT_OPERATIONS = plan.CUBLASLT_OPERATIONS_ROUNDED = 1
    engine.CudaEngine._make_plan = lambda self: plan.Plan(
        self.program,
        plan.Limits(
            self._device.multiprocessors,
            self._device.shared_per_block,
            self._device.warp_block,
            False,
        ),
        cublaslt=True,
    )
    return library


def main():
    library = use_the_stand_in()
    X, y, weights = features(ROWS), targets("values", ROWS), sample_weights(ROWS)
    for name, layers in LAYERS.items():
        nets = [
            fnn.Network(layers, INPUTS, "quadratic", "float64", backend, 3)
            for backend in ("cuda", "numpy")
        ]
        before = library.products
        found = [net.gradients(X, y, training=True, sample_weight=weights)[1] for net in nets]
        assert relative_error(*found) <= 1e-10, (name, "gradients", relative_error(*found))
        for net in nets:
            net.fit(
                X,
                y,
                epochs=2,
                batch_size=BATCH,
                optimizer="adam",
                sample_weight=weights,
                progress=False,
            )
        assert relative_error(nets[0].parameters, nets[1].parameters) <= 1e-9, (name, "training")
        assert np.allclose(nets[0].forward(X), nets[1].forward(X), rtol=0, atol=1e-9), (
            name,
            "predictions",
        )
        assert library.products - before >= 3 * len(
            [layer for layer in layers if isinstance(layer, fnn.Dense)]
        ), (name, "no products")
        print(
            f"{name}: {library.products - before} products, "
            f"{len(flat(nets[0].parameters))} parameters"
        )


if __name__ == "__main__":
    main()
