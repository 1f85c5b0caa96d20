"""Measurements as separate processes: threads, caches and settings of engines do not mix."""

import json
import os
import subprocess
import sys

TIMEOUT = 1800  # seconds; a first torch.compile of fifty layers takes one or two minutes


def environment(threads: int | None) -> dict[str, str]:
    """Environment variables for a process of that many threads; unchanged for ``None``."""
    if threads is None:
        return dict(os.environ)
    # 512-bit vectors make JAX 5 to 8 % faster where there are any; LLVM prefers 256 of itself.
    flags = [os.environ.get("XLA_FLAGS", ""), "--xla_cpu_prefer_vector_width=512"]
    if threads == 1:
        flags.append("--xla_cpu_multi_thread_eigen=false")
    counts = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)
    )
    return {**os.environ, **counts, "XLA_FLAGS": " ".join(flags).strip()}


def confine(threads: int) -> None:
    """Restrict this process to that many cores, before engines are loaded.

    JAX has no other setting for its number of threads.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, _one_a_core(sorted(os.sched_getaffinity(0)))[:threads])


def run(script: str, arguments: list[str], threads: int | None, seconds: float = TIMEOUT) -> dict:
    """What the script prints as JSON in its last line, or ``{"error": message}``.

    The message is the last line of standard error, which is printed in full.
    """
    command = [
        sys.executable,
        script,
        *([] if threads is None else ["--threads", str(threads)]),
        *arguments,
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(threads), timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {seconds:.0f} s"}
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return {
            "error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        }
    return json.loads(done.stdout.splitlines()[-1])


def _one_a_core(cpus):
    """The CPUs in an order that begins with one of each physical core.

    The order stays as it is where the system does not list siblings.
    """
    first, rest, seen = [], [], set()
    for cpu in cpus:
        siblings = _siblings(cpu)
        (rest if siblings in seen else first).append(cpu)
        seen.add(siblings)
    return first + rest


def _siblings(cpu):
    try:
        with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as file:
            return file.read()
    except OSError:
        return str(cpu)
