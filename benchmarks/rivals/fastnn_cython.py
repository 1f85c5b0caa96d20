"""fastnn on its Cython engine, whatever "auto" would choose."""

from rivals import fastnn_epochs


class Training(fastnn_epochs.Training):
    """See `rivals`."""

    backend = "cython"
