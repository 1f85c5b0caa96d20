"""How the threads of a chunk share work, and the barrier that keeps them in step.

All threads run the whole chunk and synchronise a few times a step. The barrier is one shared
counter that only grows: a thread adds 1 and spins until every thread has. It costs about 0.05 µs
when no thread is late, where leaving and entering an OpenMP region costs several. It needs neither
OpenMP nor TBB: no clash with the pools of other libraries, nothing that dies after a fork.

A thread that has spun for about 0.1 ms sleeps: on a busy machine the late one may be
without a core for milliseconds. Linux wakes it (a futex); elsewhere it polls, every 50 µs or, on
Windows, every millisecond. Yielding the core instead took five times as long beside four processes
on two cores.
"""

import platform
import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numba.np.arrayobj import make_array

from fastnn._kernels.numba_cpu.compile import kernel

# The fields of a barrier: `kernel_arguments` says what they mean.
_ARRIVALS, _SLEEPERS, _SPINS = 0, 1, 2
# Number of the system call futex, from the kernel's tables.
_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221}.get(
    platform.machine() if sys.platform == "linux" else ""
)
_FUTEX_WAIT, _FUTEX_WAKE, _EVERY_THREAD = 128, 129, 2**31 - 1  # private to this process


@kernel
def partition(n, rank, n_threads):
    """First and last + 1 of the part of ``range(n)`` that thread ``rank`` owns."""
    return n * rank // n_threads, n * (rank + 1) // n_threads


def barrier_wait(barrier, phase, n_threads):
    """Wait until all ``n_threads`` have reached barrier number ``phase``; returns the next number.

    Parameters
    ----------
    barrier : int64 array, as in `kernel_arguments`
    phase : int
        1 for the first barrier.
    """
    return phase + 1  # without the JIT there is one thread


@overload(barrier_wait)
def _(barrier, phase, n_threads):
    def implementation(barrier, phase, n_threads):
        if n_threads > 1:
            if _atomic_add(barrier, _ARRIVALS, 1) < phase * n_threads:
                _wait_for(barrier, phase * n_threads)
            elif _atomic_load(barrier, _SLEEPERS) > 0:
                _wake_all(barrier)
        return phase + 1

    return implementation


@kernel
def _wait_for(barrier, arrivals):
    """Spin, then sleep, until so many threads have arrived."""
    spins = barrier[_SPINS]
    seen = _atomic_load(barrier, _ARRIVALS)
    while seen < arrivals and spins > 0:
        _cpu_pause()
        spins -= 1
        seen = _atomic_load(barrier, _ARRIVALS)
    if seen < arrivals:
        _atomic_add(barrier, _SLEEPERS, 1)
        seen = _atomic_load(barrier, _ARRIVALS)
        while seen < arrivals:
            _sleep_while(barrier, seen)
            seen = _atomic_load(barrier, _ARRIVALS)
        _atomic_add(barrier, _SLEEPERS, -1)


def _word(context, builder, barrier_type, barrier, field):
    """Pointer to a field of a barrier."""
    data = make_array(barrier_type)(context, builder, barrier).data
    return builder.gep(data, [field])


@intrinsic
def _atomic_add(typing_context, barrier, field, n):
    """Add to a field; returns its new value."""

    def codegen(context, builder, signature, args):
        array, field, n = args
        word = _word(context, builder, barrier, array, field)
        n = context.cast(builder, n, signature.args[2], types.int64)
        before = builder.atomic_rmw("add", word, n, ordering="seq_cst")
        return builder.add(before, n)

    return types.int64(barrier, field, n), codegen


@intrinsic
def _atomic_load(typing_context, barrier, field):
    def codegen(context, builder, signature, args):
        word = _word(context, builder, barrier, *args)
        return builder.load_atomic(word, ordering="seq_cst", align=8, typ=ir.IntType(64))

    return types.int64(barrier, field), codegen


@intrinsic
def _cpu_pause(typing_context):
    """Yield the core's execution units to its other hardware thread, which may be the late one."""

    def codegen(context, builder, signature, args):
        if platform.machine() in ("x86_64", "AMD64"):
            _call(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        return context.get_dummy_value()

    return types.none(), codegen


@intrinsic
def _sleep_while(typing_context, barrier, arrivals):
    """Sleep until another thread arrives; may wake without a cause."""

    def codegen(context, builder, signature, args):
        if _FUTEX is not None:
            _call_futex(context, builder, barrier, args[0], _FUTEX_WAIT, args[1])
        elif sys.platform == "win32":
            _call(builder, "Sleep", ir.VoidType(), [ir.Constant(ir.IntType(32), 1)])
        else:
            _call(builder, "usleep", ir.IntType(32), [ir.Constant(ir.IntType(32), 50)])
        return context.get_dummy_value()

    return types.none(barrier, arrivals), codegen


@intrinsic
def _wake_all(typing_context, barrier):
    def codegen(context, builder, signature, args):
        if _FUTEX is not None:
            every = ir.Constant(ir.IntType(64), _EVERY_THREAD)
            _call_futex(context, builder, barrier, args[0], _FUTEX_WAKE, every)
        return context.get_dummy_value()

    return types.none(barrier), codegen


def _call_futex(context, builder, barrier_type, barrier, operation, value):
    """``syscall(SYS_futex, word, operation, value, 0, 0, 0)``.

    The word is the lower half of the arrivals, which is the first on a little-endian processor.
    """
    whole, zero = ir.IntType(64), ir.Constant(ir.IntType(64), 0)
    word = make_array(barrier_type)(context, builder, barrier).data
    constants = [ir.Constant(whole, _FUTEX), builder.ptrtoint(word, whole)]
    arguments = [*constants, ir.Constant(whole, operation), value, zero, zero, zero]
    _call(builder, "syscall", whole, arguments)


def _call(builder, symbol, result, arguments):
    """Call a function that every process exports, or an intrinsic of LLVM."""
    variadic = symbol == "syscall"
    parameters = [argument.type for argument in arguments[: 1 if variadic else None]]
    kind = ir.FunctionType(result, parameters, var_arg=variadic)
    builder.call(cgutils.get_or_insert_function(builder.module, kind, symbol), arguments)
