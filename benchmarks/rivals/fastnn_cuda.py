"""fastnn on its CUDA engine. Data stays on the GPU between the epochs of one call of `fit`."""

from fastnn import backends
from rivals import Unsupported, fastnn_epochs


class Training(fastnn_epochs.Training):
    """See `rivals`."""

    backend = "cuda"

    def __init__(self, workload, X, y, threads: int, seed: int = 0, device: str = "cuda"):
        if backends()["cuda"] != "available":
            raise Unsupported(f"fastnn's CUDA engine is {backends()['cuda']}")
        super().__init__(workload, X, y, threads, seed)
