"""The piecewise-linear encoding in NumPy."""

import numpy as np


def bin_of(edges, count, x):
    """The bin of each number: the first also of what lies below, the last of what lies above."""
    return np.searchsorted(edges[1:count], x, side="right")


def encoding_of(bins, x):
    """Shares of the bins that lie below each number, then the number: (n, features, bins + 1)."""
    counts, edges = bins
    encoding = np.zeros((*x.shape, edges.shape[1]), x.dtype)
    encoding[:, :, -1] = x
    for f, count in enumerate(counts):
        if count > 0:
            k = bin_of(edges[f], count, x[:, f])
            encoding[:, f, :-1] = np.arange(edges.shape[1] - 1) < k[:, None]
            with np.errstate(divide="ignore", invalid="ignore"):  # buffers may hold anything
                share = (x[:, f] - edges[f, k]) / (edges[f, k + 1] - edges[f, k])
            encoding[np.arange(len(x)), f, k] = share
    return encoding
