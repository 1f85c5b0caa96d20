"""fastnn on its CUDA engine. Data stays on the GPU between the epochs of one call of `fit`."""

from baselines import Unsupported, fastnn_epochs
from fastnn import backends


class Training(fastnn_epochs.Training):
    """See `baselines`."""

    backend = "cuda"

    def __init__(self, workload, X, y, threads: int, seed: int = 0, device: str = "cuda"):
        if backends()["cuda"] != "available":
            raise Unsupported(f"fastnn's CUDA engine is {backends()['cuda']}")
        super().__init__(workload, X, y, threads, seed)
