"""PyTorch with torch.compile: gather, forward, backward and optimiser are one graph, so a step is one call.

On 16-16-2 that takes a quarter of the time of compiling the forward pass alone and of calling a fused optimiser. Ten steps in one graph
would halve it again, but compile for 40 s there and for many minutes on deep networks. Checks of the arguments (guards) are off: they
never change.
"""

import numpy as np
import torch
from torch._dynamo import config as dynamo
from torch.nn import functional as F
from workloads import Workload

from rivals import parameters
from rivals.torch_model import configure, forward, tensors

_SKIP_GUARDS = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}


def update(optimizer, values, slots, gradients, t):
    """Change parameters and slots in place; t counts steps from 0."""
    if optimizer == "adam":
        t += 1
        rate, root = 1e-3 / (1 - 0.9**t), 1 / (1 - 0.999**t)
        for w, g, m, v in zip(values, gradients, *slots, strict=True):
            m.mul_(0.9).add_(g, alpha=0.1)
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            w.sub_(rate * m / ((v * root).sqrt() + 1e-8))
    elif optimizer == "momentum":
        for w, g, m in zip(values, gradients, *slots, strict=True):
            m.mul_(0.9).add_(g)
            w.sub_(m, alpha=0.01)
    else:
        for w, g in zip(values, gradients, strict=True):
            w.sub_(g, alpha=0.1)


class Training:
    """See `rivals`."""

    def __init__(self, workload: Workload, X: np.ndarray, y: np.ndarray, threads: int, seed: int = 0):
        configure(threads, seed)
        dynamo.trace_autograd_ops = True  # lets backward be part of the graph
        self.workload, self.X, self.y = workload, torch.from_numpy(X), torch.from_numpy(y)
        values, self.running = tensors(workload, seed)
        self.shapes, self.together = {name: value.shape for name, value in values.items()}, parameters.many_small(values)
        arrays = [torch.cat([value.flatten() for value in values.values()])] if self.together else list(values.values())
        self.values = [value.requires_grad_() for value in arrays]
        n_slots = {"sgd": 0, "momentum": 1, "adam": 2}[workload.optimizer]
        self.slots = [[torch.zeros_like(value) for value in arrays] for _ in range(n_slots)]
        self.t = torch.zeros(())
        self.step = torch.compile(self._step, fullgraph=True, dynamic=False, options=_SKIP_GUARDS)

    def _as_dict(self, values):
        arrays = values[0].split([shape.numel() for shape in self.shapes.values()]) if self.together else values
        return {name: array.view(shape) for (name, shape), array in zip(self.shapes.items(), arrays, strict=True)}

    def _step(self, values, slots, t, running, X, y, rows):
        loss = F.cross_entropy(forward(self.workload.layers, self._as_dict(values), running, X[rows]), y[rows])
        gradients = torch.autograd.grad(loss, values)
        with torch.no_grad():
            update(self.workload.optimizer, values, slots, gradients, t)
        return loss.detach()

    def epoch(self) -> float:
        """Loss of the last mini-batch. Samples that fill none are left to another epoch: they would be a graph of their own."""
        size, X, y = self.workload.batch_size, self.X, self.y
        for rows in torch.randperm(len(X))[: len(X) // size * size].split(size):
            loss = self.step(self.values, self.slots, self.t, self.running, X, y, rows)
        return loss.item()

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Labels."""
        with torch.inference_mode():
            values = self._as_dict(self.values)
            return forward(self.workload.layers, values, self.running, torch.from_numpy(X), training=False).argmax(dim=1).numpy()
