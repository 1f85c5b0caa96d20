"""The network in PyTorch, as functions of tensors.

Modules would cost each layer of a small network a few microseconds more.
"""

import torch
from torch.nn import functional as F
from workloads import Workload

from baselines import Unsupported, parameters
from fastnn.nn.layers import Activation, BatchNorm, Dense, Dropout, Residual

ACTIVATIONS = {
    "linear": lambda z: z,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": F.gelu,
}


def configure(threads: int, seed: int, device: str = "cpu") -> None:
    """Settings of the process."""
    if device == "cuda" and not torch.cuda.is_available():
        raise Unsupported("PyTorch sees no GPU, or was built without CUDA")
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("highest")  # no TF32 in products, which is the default too
    torch.backends.cuda.matmul.allow_tf32 = False
    # Adam's moments of dead units decay into subnormals, which are slow
    torch.set_flush_denormal(True)


def tensors(
    workload: Workload, seed: int, device: str = "cpu"
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Parameters and running statistics by fastnn's names.

    Weights are (n_out, n_in), as in `torch.nn.Linear`.
    """
    values, running = parameters.initial(workload, seed)
    return (
        {
            name: torch.tensor(value.T.copy() if value.ndim == 2 else value, device=device)
            for name, value in values.items()
        },
        {name: torch.tensor(value, device=device) for name, value in running.items()},
    )


def forward(layers, values, running, x, training=True, prefix=""):
    """Output of the layers. In training BatchNorm changes ``running``."""
    for i, layer in enumerate(layers):
        name = f"{prefix}{i}."
        if isinstance(layer, Dense):
            x = ACTIVATIONS[layer.activation.name](
                F.linear(x, values[f"{name}weight"], values[f"{name}bias"])
            )
        elif isinstance(layer, Activation):
            x = ACTIVATIONS[layer.name](x)
        elif isinstance(layer, BatchNorm):
            mean, variance = running[f"{name}running_mean"], running[f"{name}running_var"]
            scale, shift = values[f"{name}scale"], values[f"{name}shift"]
            x = F.batch_norm(
                x, mean, variance, scale, shift, training, layer.momentum, layer.epsilon
            )
        elif isinstance(layer, Dropout):
            x = F.dropout(x, layer.rate, training)
        elif isinstance(layer, Residual):
            y, projection = (
                forward(layer.layers, values, running, x, training, name),
                values.get(f"{name}projection.weight"),
            )
            x = ACTIVATIONS[layer.activation.name](
                y + (x if projection is None else F.linear(x, projection))
            )
        else:
            raise Unsupported(f"{type(layer).__name__} is not translated to PyTorch")
    return x
