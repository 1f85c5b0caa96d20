"""How the threads of a chunk share work, and the barrier that keeps them in step.

All threads run the whole chunk and synchronise a few times a step. The barrier is one shared
counter that only grows: a thread adds 1 and spins until every thread has. It costs about 0.05 µs
when no thread is late, where leaving and entering an OpenMP region costs several. It needs neither
OpenMP nor TBB: no clash with the pools of other libraries, nothing that dies after a fork. A thread
that waits long yields its core, so that too many threads are slow rather than stuck.
"""

import platform
import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numba.np.arrayobj import make_array

from fastnn._kernels.numba_cpu.compile import kernel

_SPINS_BEFORE_YIELD = 1024
# Exported by every process.
_YIELD_SYMBOL = "SwitchToThread" if sys.platform == "win32" else "sched_yield"


@kernel
def partition(n, rank, n_threads):
    """First and last + 1 of the part of ``range(n)`` that thread ``rank`` owns."""
    return n * rank // n_threads, n * (rank + 1) // n_threads


def barrier_wait(counter, phase, n_threads):
    """Wait until all ``n_threads`` have reached barrier number ``phase``; returns the next number.

    Parameters
    ----------
    counter : int64 array of one element, 0 when the chunk begins
    phase : int
        1 for the first barrier.
    """
    return phase + 1  # without the JIT there is one thread


@overload(barrier_wait)
def _(counter, phase, n_threads):
    def implementation(counter, phase, n_threads):
        if n_threads > 1:
            _atomic_increment(counter)
            spins = 0
            while _atomic_load(counter) < phase * n_threads:
                _cpu_pause()
                spins += 1
                if spins > _SPINS_BEFORE_YIELD:
                    _thread_yield()
        return phase + 1

    return implementation


@intrinsic
def _atomic_increment(typing_context, counter):
    def codegen(context, builder, signature, args):
        pointer = make_array(counter)(context, builder, args[0]).data
        builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(64), 1), ordering="seq_cst")
        return context.get_dummy_value()

    return types.none(counter), codegen


@intrinsic
def _atomic_load(typing_context, counter):
    def codegen(context, builder, signature, args):
        pointer = make_array(counter)(context, builder, args[0]).data
        return builder.load_atomic(pointer, ordering="seq_cst", align=8, typ=ir.IntType(64))

    return types.int64(counter), codegen


@intrinsic
def _cpu_pause(typing_context):
    """Yield the core's execution units to its other hardware thread, which may be the late one."""

    def codegen(context, builder, signature, args):
        if platform.machine() in ("x86_64", "AMD64"):
            builder.call(
                cgutils.get_or_insert_function(
                    builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"
                ),
                [],
            )
        return context.get_dummy_value()

    return types.none(), codegen


@intrinsic
def _thread_yield(typing_context):
    def codegen(context, builder, signature, args):
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.IntType(32), []), _YIELD_SYMBOL
        )
        builder.call(function, [])
        return context.get_dummy_value()

    return types.none(), codegen
