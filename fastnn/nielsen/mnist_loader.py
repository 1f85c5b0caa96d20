"""MNIST in the shapes of the book: lists of pairs (image, target), the image a column."""

import operator
import os
from typing import Any

import numpy as np

from fastnn.datasets import Samples, mnist


class ImagePairs(list[tuple[np.ndarray, Any]]):
    """A list of pairs (x, y) that keeps the arrays they were made from.

    A network then need not stack the pairs again.

    Parameters
    ----------
    images : ndarray (n, pixels)
        Its rows become the columns x.
    targets : ndarray (n, …)
        Its entries are the y.
    """

    def __init__(self, images: np.ndarray, targets: np.ndarray):
        super().__init__(zip(images[:, :, None], targets, strict=True))
        self._images, self._targets, self._made = images, targets, tuple(self)

    def arrays(self) -> tuple[np.ndarray, np.ndarray] | None:
        """``images`` and ``targets``, or None if the list was changed or reordered."""
        unchanged = len(self) == len(self._made) and all(map(operator.is_, self, self._made))
        return (self._images, self._targets) if unchanged else None

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)  # in a copy the pairs would not share memory with the arrays


def load_data(path: str | os.PathLike[str] | None = None) -> tuple[Samples, Samples, Samples]:
    """50,000 training, 10,000 validation and 10,000 test images, as arrays.

    The book's own file holds the same images in the same order with pixels divided by 256; here
    they are divided by 255 and reach 1.

    Parameters
    ----------
    path : path-like, optional
        Folder of MNIST's files; else they are found, or downloaded, as `fastnn.datasets.mnist`
        says.

    Returns
    -------
    training_data, validation_data, test_data
        A pair each: images (n, 784) of float32 with pixels from 0 to 1, and digits (n,) of int64.
    """
    return mnist(path)


def load_data_wrapper(
    path: str | os.PathLike[str] | None = None,
) -> tuple[ImagePairs, ImagePairs, ImagePairs]:
    """The same three sets as lists of pairs (x, y), as `network2.Network.SGD` takes them.

    Parameters
    ----------
    path : path-like, optional
        As in `load_data`.

    Returns
    -------
    training_data : list of 50,000 pairs
        x: an image of shape (784, 1). y: its digit as a unit vector of shape (10, 1).
    validation_data, test_data : lists of 10,000 pairs
        x as above; y: the digit as an integer.
    """
    training, validation, test = load_data(path)
    unit_vectors = np.eye(10)[training[1]][:, :, None]
    return ImagePairs(training[0], unit_vectors), ImagePairs(*validation), ImagePairs(*test)


def vectorized_result(j: int) -> np.ndarray:
    """The target of the digit ``j``: the (10, 1) unit vector with 1.0 in row ``j``."""
    return np.eye(10)[:, [j]]
