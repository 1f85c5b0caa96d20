"""The table of kernels: every entry point that the host launches."""

from collections.abc import Callable

from fastnn._kernels.numba_cuda.kernels import context, finite_check, persistent, stages
from fastnn._kernels.numba_cuda.kernels.generated import entry_point

_STAGES: dict[str, Callable] = {
    "train": persistent.train,
    "predict": persistent.predict,
    "evaluate": persistent.evaluate,
    "check_finite": finite_check.check_finite,
    # Stages of a step on the graph path.
    "load": stages.load,
    "gemm_forward": stages.gemm_forward,
    "gemm_forward_large": stages.gemm_forward_large,
    "batch_statistics": stages.batch_statistics,
    "operation_forward": stages.operation_forward,
    "write_predictions": stages.write_predictions,
    "losses": stages.losses,
    "loss": stages.loss_and_gradient,
    "log_step": stages.log_step,
    "epilogue_backward": stages.epilogue_backward,
    "gemm_input": stages.gemm_input,
    "gemm_input_large": stages.gemm_input_large,
    "input_epilogue": stages.input_epilogue,
    "batch_sums": stages.batch_sums,
    "operation_backward": stages.operation_backward,
    "record_statistics": stages.record_statistics,
    "all_gradients": stages.all_gradients,
    "operation_gradient": stages.operation_gradient,
    "gemm_weight_large": stages.gemm_weight_large,
    "weight_epilogue": stages.weight_epilogue,
    "gradient_norm": stages.gradient_norm,
    "apply_updates": stages.apply_updates,
    "constrain": stages.constrain,
}

KERNELS: dict[str, Callable] = {name: entry_point(stage) for name, stage in _STAGES.items()}

# Two blocks a multiprocessor hide each other's epilogue, if they have 128 registers a thread. That
# is enough in float32; in float64 it would spill.
KERNELS["gemm_weight_large"].launch_bounds = {"float32": (context.MAX_THREADS, 2)}
