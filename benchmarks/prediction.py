"""Time of a prediction of fastnn, ONNX Runtime, scikit-learn and PyTorch: one row, and 10,000.

    python benchmarks/prediction.py [--rounds 5] [--threads 2] [--engines fastnn,onnxruntime]
                                    [--json FILE]

The network is 784-256-128-10 with ReLU and softmax. Each engine runs in its own process. All have
the same weights, and their probabilities are compared with NumPy's in float64 before they are
timed. Each takes and returns arrays of its own kind: conversion is not timed.
"""

import argparse
import importlib.util
import itertools
import json
import statistics
import time
from collections.abc import Callable

import arguments
import numpy as np
import processes
import report

import fastnn as fnn

WIDTHS = (784, 256, 128, 10)
ROWS = 10_000

_BATCHES, _SECONDS = 7, 0.1
_TOLERANCE = 1e-5

Layers = list[tuple[np.ndarray, np.ndarray]]  # weights (n_in, n_out) and biases
# from a NumPy array to the engine's own kind, and from that to probabilities
Engine = tuple[Callable, Callable]


def with_fastnn(net: fnn.Network, threads: int) -> Engine:
    """Through the public API, checks of the input included."""
    fnn.set_num_threads(threads)
    return np.asarray, net.copy(backend="auto").predict


def with_onnxruntime(net: fnn.Network, threads: int) -> Engine:
    """A graph of Gemm, Relu and Softmax on the CPU.

    Buffers bound once would save 3 µs, but every new row would have to be copied into them.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(
        _onnx(_layers(net)), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray, lambda X: session.run(["probabilities"], {"X": X})[0]


def with_sklearn(net: fnn.Network, threads: int) -> Engine:
    """A classifier whose weights are replaced."""
    import sklearn
    from sklearn.neural_network import MLPClassifier

    sklearn.set_config(assume_finite=True)
    model = MLPClassifier(WIDTHS[1:-1])
    classes = np.arange(WIDTHS[-1])
    model.partial_fit(np.zeros((len(classes), WIDTHS[0]), np.float32), classes, classes=classes)
    model.coefs_, model.intercepts_ = map(list, zip(*_layers(net), strict=True))
    return np.asarray, model.predict_proba


def with_torch(net: fnn.Network, threads: int) -> Engine:
    """Functions of tensors: modules would take some microseconds more.

    Inference mode is on for the whole process.
    """
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    torch.inference_mode().__enter__()
    *hidden, (weight, bias) = [
        (torch.tensor(weight.T.copy()), torch.tensor(bias)) for weight, bias in _layers(net)
    ]

    def predict(x):
        for w, b in hidden:
            x = torch.relu(F.linear(x, w, b))
        return torch.softmax(F.linear(x, weight, bias), dim=1)

    return torch.from_numpy, predict


# name: (engine, packages that it needs)
ENGINES = {
    "fastnn": (with_fastnn, ()),
    "onnxruntime": (with_onnxruntime, ("onnx", "onnxruntime")),
    "sklearn": (with_sklearn, ("sklearn",)),
    "torch": (with_torch, ("torch",)),
}


def measure(engine: str, threads: int) -> dict:
    """Microseconds of a call with one row, and milliseconds of one with `ROWS`."""
    processes.confine(threads)
    net = fnn.mlp(WIDTHS, backend="numpy")
    for name, bias in net.parameters.items():
        if name.endswith("bias"):
            # Biases start at 0, which would hide a missing one.
            bias[...] = np.linspace(-0.1, 0.1, len(bias))
    X = np.random.default_rng(0).random((ROWS, WIDTHS[0]), dtype=np.float32)
    convert, predict = ENGINES[engine][0](net, threads)
    expected = _expected(_layers(net), X)
    for rows in (X, X[:1]):
        difference = np.abs(np.asarray(predict(convert(rows))) - expected[: len(rows)]).max()
        if not difference <= _TOLERANCE:
            raise AssertionError(f"{engine} gives probabilities that are off by {difference:.1e}")
    one, all_rows = convert(X[:1].copy()), convert(X)
    return {
        "one_row": _seconds(lambda: predict(one)) * 1e6,
        "bulk": _seconds(lambda: predict(all_rows)) * 1e3,
    }


def lower_bound(about: dict) -> float:
    """Least milliseconds of `ROWS` rows: products at peak rate, rows read once from memory."""
    import machine

    operations = 2 * ROWS * sum(n_in * n_out for n_in, n_out in itertools.pairwise(WIDTHS))
    return 1e3 * (
        operations / machine.peak(about)
        + 4 * ROWS * WIDTHS[0] / machine.rate(about, machine.SIZES[-1])
    )


def _layers(net: fnn.Network) -> Layers:
    return [
        (net.parameters[f"{i}.weight"].copy(), net.parameters[f"{i}.bias"].copy())
        for i in range(len(net.layers))
    ]


def _expected(layers, X):
    x = X.astype(np.float64)
    for i, (weight, bias) in enumerate(layers):
        x = x @ weight + bias
        x = np.maximum(x, 0) if i < len(layers) - 1 else x
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _onnx(layers):
    """The network as the bytes of an ONNX file."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, arrays, value = [], [], "X"
    for i, pair in enumerate(layers):
        names = f"weight{i}", f"bias{i}"
        arrays += [
            numpy_helper.from_array(array, name) for array, name in zip(pair, names, strict=True)
        ]
        last = i == len(layers) - 1
        nodes.append(helper.make_node("Gemm", [value, *names], [f"z{i}"]))
        value = "probabilities" if last else f"y{i}"
        nodes.append(
            helper.make_node("Softmax", [f"z{i}"], [value], axis=1)
            if last
            else helper.make_node("Relu", [f"z{i}"], [value])
        )
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", n])
        for name, n in (("X", WIDTHS[0]), (value, WIDTHS[-1]))
    ]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], arrays)
    version = 17  # of the operators: Softmax as here since 13
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", version)], ir_version=10
    ).SerializeToString()


def _seconds(call):
    """A call's time: the median over batches of as many calls as take a tenth of a second."""
    calls = next(2**n for n in itertools.count() if _batch(call, 2**n) > _SECONDS)
    return statistics.median(_batch(call, calls) / calls for _ in range(_BATCHES))


def _batch(call, calls):
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - start


def installed() -> list[str]:
    """The engines whose packages are here."""
    return [
        name
        for name, (_, packages) in ENGINES.items()
        if all(map(importlib.util.find_spec, packages))
    ]


def compare(options) -> None:
    """Rounds of all engines, the file after each, and the table."""
    import machine  # Not at the top: it loads Numba, which processes of baselines must not.

    engines = options.engines or installed()
    about = machine.describe(options.threads)
    raw = {engine: {"one_row": [], "bulk": []} for engine in engines}
    for number in range(1, options.rounds + 1):
        for engine in engines:
            for key, value in processes.run(
                __file__, ["--measure", engine], options.threads
            ).items():
                if key == "error":
                    raw[engine][key] = value
                else:
                    raw[engine][key].append(value)
        figures = {
            "date": options.date,
            "threads": options.threads,
            "rounds": number,
            "machine": about,
            "bulk_lower_bound": lower_bound(about),
        }
        report.write(options.json, {**figures, "medians": _spreads(raw), "raw": raw})
    show(_spreads(raw), engines, lower_bound(about))


def _spreads(raw):
    return {
        engine: {key: report.spread(entry[key]) for key in ("one_row", "bulk")}
        for engine, entry in raw.items()
        if entry["one_row"]
    }


def show(spreads: dict, engines: list[str], bulk_lower_bound: float) -> None:
    """Medians, and their ratios to fastnn's."""
    ours, rows = spreads.get("fastnn"), []
    for engine in engines:
        if engine not in spreads:
            rows.append([engine, "failed", "", "", ""])
            continue
        cells = []
        for key in ("one_row", "bulk"):
            median = spreads[engine][key]["median"]
            cells += [
                report.figure(median),
                report.figure(median / ours[key]["median"] if ours else None),
            ]
        rows.append([engine, *cells])
    rows.append(["lower bound", "", "", report.figure(bulk_lower_bound), ""])
    print(report.table(["", "one row, µs", "÷ fastnn", f"{ROWS} rows, ms", "÷ fastnn"], rows))


def main():
    parser = arguments.parser(__doc__, ENGINES)
    parser.add_argument("--measure", metavar="ENGINE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.threads)))
    else:
        compare(options)


if __name__ == "__main__":
    main()
