"""fastnn on its Numba engine, whatever "auto" would choose."""

from baselines import fastnn_epochs


class Training(fastnn_epochs.Training):
    """See `baselines`."""

    backend = "numba"
