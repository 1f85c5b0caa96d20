"""Accuracies on full MNIST.

    python benchmarks/mnist.py [--seeds 8] [--path FOLDER]

The depth experiment of Nielsen's book (chapter 5: sigmoid, cross-entropy, mini-batch 10, η = 0.1, λ
= 5, 30 epochs) should give mean validation accuracies near 96.47, 96.91, 96.49 and 96.29 %; the
784-512-512-10 network with BatchNorm, dropout and Adam at least 98.4 % on the test images within 20
epochs.
"""

import argparse
import time

import numpy as np

import fastnn as fnn

EXPECTED = {(30,): 96.47, (30, 30): 96.91, (30, 30, 30): 96.49, (30, 30, 30, 30): 96.29}


def depth_experiment(train, validation, hidden, seed):
    """Validation accuracy in percent after 30 epochs."""
    X, y = train
    net = fnn.mlp(
        [784, *hidden, 10],
        activation="sigmoid",
        output="sigmoid",
        init="nielsen",
        loss="binary_cross_entropy",
        l2=5 / len(X),  # the book's λ/n
        seed=seed,
    )
    history = net.fit(X, y, epochs=30, batch_size=10, optimizer=fnn.SGD(0.1), validation=validation)
    return 100 * history["val_accuracy"][-1]


def wide_network(train, test):
    """Test accuracy in percent after 20 epochs."""
    X, y = train
    block = [fnn.BatchNorm(), fnn.Activation("relu"), fnn.Dropout(0.3)]
    net = fnn.Network(
        [fnn.Dense(512), *block, fnn.Dense(512), *block, fnn.Dense(10)],
        inputs=784,
        loss="softmax_cross_entropy",
    )
    steps = 20 * -(-len(X) // 128)
    net.fit(X, y, epochs=20, batch_size=128, optimizer=fnn.Adam(fnn.OneCycle(3e-3, steps)))
    return 100 * net.evaluate(*test)["accuracy"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--path", help="folder of the IDX files")
    options = parser.parse_args()
    train, validation, test = fnn.datasets.mnist(options.path)
    for hidden, expected in EXPECTED.items():
        start = time.perf_counter()
        scores = [
            depth_experiment(train, validation, hidden, seed) for seed in range(options.seeds)
        ]
        each = (time.perf_counter() - start) / options.seeds
        score = f"{np.mean(scores):.2f} ± {np.std(scores):.2f} %"
        print(f"{[784, *hidden, 10]}: {score} (expected {expected}), {each:.1f} s each")
    start = time.perf_counter()
    score = wide_network(train, test)
    seconds = time.perf_counter() - start
    print(f"784-512-512-10, BatchNorm, dropout, Adam: {score:.2f} % on test, {seconds:.1f} s")


if __name__ == "__main__":
    main()
