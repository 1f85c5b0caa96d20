"""fastnn on its Numba engine, whatever "auto" would choose."""

from rivals import fastnn_epochs


class Training(fastnn_epochs.Training):
    """See `rivals`."""

    backend = "numba"
