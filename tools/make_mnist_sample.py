"""Make fastnn/_data/mnist_sample.npz out of the MNIST files in a FOLDER.

500 images of each digit out of the 60,000 for training and 100 of each out of the 10,000 for test,
chosen and ordered by a Philox permutation with seed 0. The same files give the same bytes (with the
same zlib).
"""

import io
import sys
from pathlib import Path

import numpy as np

from fastnn._kernels.opcodes import STREAM_SPLIT
from fastnn._kernels.philox import permutation
from fastnn._utils.files import write_atomically
from fastnn.datasets import mnist

TARGET = Path(__file__).resolve().parent.parent / "fastnn" / "_data" / "mnist_sample.npz"


def balanced(labels, per_class, step):
    """Indices of ``per_class`` samples of each class, in random order."""
    order = permutation(0, STREAM_SPLIT, step, len(labels))
    kept = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        kept[order[labels[order] == label][:per_class]] = True
    return order[kept[order]]


def sample(images, labels, per_class, step):
    index = balanced(labels, per_class, step)
    return np.rint(images[index] * 255).astype(np.uint8), labels[index].astype(np.uint8)


def main(folder):
    (X, y), (Xv, yv), (Xt, yt) = mnist(folder)
    train_images, train_labels = sample(
        np.concatenate([X, Xv]), np.concatenate([y, yv]), 500, step=0
    )
    test_images, test_labels = sample(Xt, yt, 100, step=1)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )
    write_atomically(TARGET, buffer.getvalue())
    print(f"{TARGET.name}: {len(buffer.getvalue()):,} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/make_mnist_sample.py FOLDER")
    main(sys.argv[1])
