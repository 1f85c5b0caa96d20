"""PyTorch with CUDA graphs: ten training steps are captured once and replayed.

The steps of the graph read their samples by a counter in the GPU's memory, so that a replay copies
nothing. With one step a graph the host would limit small networks: launching a graph takes it
several microseconds.
"""

import numpy as np
import torch
from torch.nn import functional as F
from workloads import Workload

from baselines import Unsupported
from baselines.torch_model import configure, forward, tensors

OPTIMIZERS = {
    "sgd": lambda values: torch.optim.SGD(values, lr=0.1, fused=True),
    "momentum": lambda values: torch.optim.SGD(values, lr=0.01, momentum=0.9, fused=True),
    "adam": lambda values: torch.optim.Adam(values, lr=1e-3, fused=True, capturable=True),
}
_STEPS = 10  # that a graph takes, if so many make an epoch
_WARM_UP = 3  # steps before the capture, as PyTorch's documentation asks for


class Training:
    """See `baselines`."""

    def __init__(
        self,
        workload: Workload,
        X: np.ndarray,
        y: np.ndarray,
        threads: int,
        seed: int = 0,
        device: str = "cuda",
    ):
        configure(threads, seed, device)
        if device != "cuda":
            raise Unsupported("CUDA graphs need a GPU")
        self.workload, self.X, self.y = (
            workload,
            torch.from_numpy(X).to(device),
            torch.from_numpy(y).to(device),
        )
        self.values, self.running = tensors(workload, seed, device)
        self.optimizer = OPTIMIZERS[workload.optimizer](
            [value.requires_grad_() for value in self.values.values()]
        )
        # samples that fill no mini-batch are left to another epoch
        steps = len(X) // workload.batch_size
        self.order = torch.zeros((steps, workload.batch_size), dtype=torch.int64, device=device)
        self.counter = torch.zeros(1, dtype=torch.int64, device=device)
        self.together = _STEPS if steps % _STEPS == 0 else 1
        self._shuffle()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad(set_to_none=True)  # gradients are to lie in the graph's own memory
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            for _ in range(self.together):
                self.loss = self._step()

    def _shuffle(self):
        self.order.copy_(
            torch.randperm(len(self.X), device=self.X.device)[: self.order.numel()].view_as(
                self.order
            )
        )
        self.counter.zero_()

    def _step(self):
        rows = self.order.index_select(0, self.counter)[0]
        z = forward(self.workload.layers, self.values, self.running, self.X.index_select(0, rows))
        loss = F.cross_entropy(z, self.y.index_select(0, rows))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.counter += 1
        return loss.detach()

    def epoch(self) -> float:
        """Loss of the last mini-batch."""
        self._shuffle()
        for _ in range(len(self.order) // self.together):
            self.graph.replay()
        return self.loss.item()  # waits for the GPU

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Labels."""
        with torch.inference_mode():
            X = torch.from_numpy(X).to(self.X.device)
            return (
                forward(self.workload.layers, self.values, self.running, X, training=False)
                .argmax(dim=1)
                .cpu()
                .numpy()
            )
