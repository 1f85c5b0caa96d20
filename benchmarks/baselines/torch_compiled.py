"""PyTorch with torch.compile: gather, forward, backward and optimiser are one graph.

A step is one call. On 16-16-2 it takes a quarter of the time of compiling the forward pass alone
and calling a fused optimiser. Ten steps in one graph would halve it again, but compile for 40 s
there and for many minutes on deep networks. Checks of the arguments (guards) are off: they never
change.

On a GPU it compiles in the mode that FASTNN_TORCH_MODE names, "reduce-overhead" (the step becomes a
CUDA graph) if none; "max-autotune" also tries kernels for the products, for minutes. Parameters and
optimiser slots have fixed addresses, which a graph must be told.
"""

import os

import numpy as np
import torch
from torch._dynamo import config as dynamo
from torch.nn import functional as F
from workloads import Workload

from baselines import parameters
from baselines.torch_model import configure, forward, tensors

_SKIP_GUARDS = (
    {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    if hasattr(torch.compiler, "skip_all_guards_unsafe")
    else {}
)
_TRACES_BACKWARD = hasattr(dynamo, "trace_autograd_ops")  # PyTorch 2.10 and later


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
    """See `baselines`."""

    def __init__(
        self,
        workload: Workload,
        X: np.ndarray,
        y: np.ndarray,
        threads: int,
        seed: int = 0,
        device: str = "cpu",
    ):
        configure(threads, seed, device)
        if _TRACES_BACKWARD:
            dynamo.trace_autograd_ops = True  # lets backward be part of the graph
        self.workload, self.X, self.y = (
            workload,
            torch.from_numpy(X).to(device),
            torch.from_numpy(y).to(device),
        )
        values, self.running = tensors(workload, seed, device)
        self.shapes, self.together = (
            {name: value.shape for name, value in values.items()},
            parameters.many_small(values),
        )
        arrays = (
            [torch.cat([value.flatten() for value in values.values()])]
            if self.together
            else list(values.values())
        )
        self.values = [value.requires_grad_(_TRACES_BACKWARD) for value in arrays]
        n_slots = {"sgd": 0, "momentum": 1, "adam": 2}[workload.optimizer]
        self.slots = [[torch.zeros_like(value) for value in arrays] for _ in range(n_slots)]
        self.t = torch.zeros((), device=device)
        options = dict(_SKIP_GUARDS)
        if device == "cuda":
            options |= torch._inductor.list_mode_options(
                os.environ.get("FASTNN_TORCH_MODE", "reduce-overhead")
            )
            for tensor in (
                self.X,
                self.y,
                self.t,
                *self.values,
                *(slot for slots in self.slots for slot in slots),
                *self.running.values(),
            ):
                torch._dynamo.mark_static_address(tensor)
        self.step = torch.compile(self._step, fullgraph=True, dynamic=False, options=options)

    def _as_dict(self, values):
        arrays = (
            values[0].split([shape.numel() for shape in self.shapes.values()])
            if self.together
            else values
        )
        return {
            name: array.view(shape)
            for (name, shape), array in zip(self.shapes.items(), arrays, strict=True)
        }

    def _step(self, values, slots, t, running, X, y, rows):
        def cost(values):
            return F.cross_entropy(
                forward(self.workload.layers, self._as_dict(values), running, X[rows]), y[rows]
            )

        if _TRACES_BACKWARD:
            loss = cost(values)
            gradients = torch.autograd.grad(loss, values)
        else:
            gradients, loss = torch.func.grad_and_value(cost)(values)
        with torch.no_grad():
            update(self.workload.optimizer, values, slots, gradients, t)
        return loss.detach()

    def epoch(self) -> float:
        """Loss of the last mini-batch.

        Samples that do not fill a mini-batch are left out: they would need a graph of their own.
        """
        size, X, y = self.workload.batch_size, self.X, self.y
        for rows in torch.randperm(len(X), device=X.device)[: len(X) // size * size].split(size):
            loss = self.step(self.values, self.slots, self.t, self.running, X, y, rows)
        return loss.item()

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Labels."""
        with torch.inference_mode():
            values = self._as_dict(self.values)
            X = torch.from_numpy(X).to(self.X.device)
            return (
                forward(self.workload.layers, values, self.running, X, training=False)
                .argmax(dim=1)
                .cpu()
                .numpy()
            )
