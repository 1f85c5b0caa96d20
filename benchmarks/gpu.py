"""Time of a training step on a GPU: fastnn, PyTorch (eager, CUDA graphs, torch.compile) and JAX.

    python benchmarks/gpu.py [--rounds 3] [--only TEXT] [--engines fastnn,jax] [--json FILE]
    python benchmarks/gpu.py --budget 540 --resume      stops after 540 s; the next call continues
    python benchmarks/gpu.py --profile [--only TEXT]    each launch of fastnn's step by itself

The engines run in turn, each in a process of its own. All use float32 without TF32, and data on the
GPU. Each timing ends with a value read back from the GPU. A round runs every engine once on every
workload. A run is a warm-up epoch, which includes compilation, then at least three more epochs and
half a second; its figure is the median of their seconds divided by their steps. JAX has a whole
epoch in one `lax.scan`, PyTorch's graphs ten steps each, and torch.compile the whole step in the
mode FASTNN_TORCH_MODE ("reduce-overhead" by default, or "max-autotune").

The lower bound of a step is the longer of two times: the operations of its products at the best
float32 rate, and its memory traffic at the rate of copies. The traffic is that of parameters and
the optimiser's vectors, read and written once, and of the rows, read once. PyTorch measures both
rates in the same run. Launch latencies are left out: no small network comes near the bound.

Figures are written after every row. ``--quick`` trains five steps of everything to check that it
runs; its figures are meaningless.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time

import arguments
import baselines
import peers
import processes
import report
from workloads import GPU_WORKLOADS, Workload

PACKAGES = (
    *("fastnn", "numpy", "numba", "numba-cuda", "cuda-bindings", "nvmath-python"),
    *("nvidia-cublas", "torch", "triton", "jax", "jaxlib", "jax-cuda13-plugin"),
)
BASELINES = ("jax", "torch", "torch.graphs", "torch.compile")
COPIES = [2**power for power in range(20, 31)]  # bytes; the largest exceed any cache
# m × depth × n
PRODUCTS = [(2048, 2048, 2048), (4096, 4096, 4096), (8192, 8192, 8192), (4096, 784, 4096)]

_TRIES, _SECONDS = 5, 0.05


def describe() -> dict:
    """The machine as plain data, without its rates."""
    query = [
        "nvidia-smi",
        "--query-gpu=name,driver_version,memory.total,clocks.max.sm",
        "--format=csv,noheader",
    ]
    found = (
        subprocess.run(query, capture_output=True, text=True) if shutil.which(query[0]) else None
    )
    rows = found.stdout.strip().splitlines() if found is not None and found.returncode == 0 else []
    parts = [part.strip() for part in rows[0].split(",")] if rows else []
    return {
        **dict(zip(("gpu", "driver", "memory", "clock"), parts, strict=False)),
        "gpus": len(rows),
        "system": f"{platform.system()} {platform.release()}",
        "versions": {
            "python": platform.python_version(),
            **{name: report.version(name) for name in PACKAGES},
        },
        "torch_mode": os.environ.get("FASTNN_TORCH_MODE", "reduce-overhead"),
    }


def rates() -> dict:
    """Rates of copies and of float32 products.

    Copies: bytes per second by size, reads and writes together. Products: operations per second.
    """
    import torch

    if not torch.cuda.is_available():
        return {"unsupported": "PyTorch sees no GPU, or was built without CUDA"}
    torch.backends.cuda.matmul.allow_tf32 = False
    copies, products = [], {}
    for size in COPIES:
        source, target = (torch.zeros(size // 4, device="cuda") for _ in range(2))
        copies.append([size, 2 * size / _gpu_seconds(lambda s=source, t=target: t.copy_(s))])
    for m, depth, n in PRODUCTS:
        a, b, c = (torch.randn(shape, device="cuda") for shape in ((m, depth), (depth, n), (m, n)))
        products[f"{m} × {depth} × {n}"] = (
            2 * m * depth * n / _gpu_seconds(lambda a=a, b=b, c=c: torch.mm(a, b, out=c))
        )
    source = f"copy_ and mm of PyTorch {torch.__version__}, float32, TF32 off, in this run"
    return {
        "source": source,
        "name": torch.cuda.get_device_name(),
        "copies": copies,
        "products": products,
    }


def _gpu_seconds(work):
    """The shortest mean time of a call over several series, by CUDA events."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def run(times):
        start.record()
        for _ in range(times):
            work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    run(3)
    times = max(3, int(_SECONDS / max(run(3) / 3, 1e-6)))
    return min(run(times) for _ in range(_TRIES)) / times


def lower_bound(workload: Workload, measured: dict) -> float | None:
    """Seconds per step that no implementation can beat, or None where the rates are unknown."""
    import machine  # imported here: it loads Numba, which baselines' processes must not

    if "copies" not in measured:
        return None
    operations, state, rows = machine.costs(workload)
    moving = 2 * state / rate(measured, state) + rows / rate(measured, COPIES[-1])
    return max(operations / max(measured["products"].values()), moving)


def rate(measured: dict, n_bytes: float) -> float:
    """Bytes per second of copies of at least that size; short copies measure latency."""
    return max(
        (speed for size, speed in measured["copies"] if size >= n_bytes),
        default=measured["copies"][-1][1],
    )


def measure(engine: str, workload: Workload, threads: int, quick: bool) -> dict:
    """One run: microseconds per step, seconds of the first epoch, last loss; or the error."""

    def make(X, y):
        return baselines.load(engine, baselines.GPU).Training(workload, X, y, threads, 0, "cuda")

    return peers.time_steps(make, workload, quick)


def compare(options, workloads):
    """fastnn and its baselines."""
    began, about = time.monotonic(), describe()
    if not about["gpus"]:
        sys.exit(
            "benchmarks/gpu.py: no GPU here, so nothing was measured: "
            "nvidia-smi is missing, or finds none"
        )
    here = baselines.installed(baselines.GPU)
    engines = [engine for engine in options.engines or baselines.GPU if engine in here]
    absent = [engine for engine in options.engines or baselines.GPU if engine not in here]
    runs = peers.Runs(engines, options.quick, __file__, options.limit)
    about["rates"] = (
        processes.run(__file__, ["--rates"], None, options.limit)
        if importlib.util.find_spec("torch")
        else {}
    )
    runs.raw = _old(options)
    bounds = {
        workload.name: _microseconds(lower_bound(workload, about["rates"]))
        for workload in workloads
    }
    print(f"{about['gpu']}, driver {about['driver']}; {json.dumps(about['versions'])}", flush=True)
    _print_rates(about["rates"])
    left_out = 0
    for number in range(1, options.rounds + 1):
        for workload in workloads:
            for engine in engines:
                if _measured(runs, workload, engine, number):
                    continue
                if options.budget and time.monotonic() - began > options.budget:
                    left_out += 1
                    continue
                runs.run(workload, engine, engine, None)
            cells = ", ".join(f"{engine} {_last(runs, workload, engine)}" for engine in engines)
            print(f"round {number}, {workload.name}: {cells}", flush=True)
            summary = peers.summarise(runs, bounds, BASELINES)
            figures = {
                "date": options.date,
                "rounds": number,
                "quick": options.quick,
                "machine": about,
                "medians": runs.spreads(),
            }
            report.write(options.json, {**figures, **summary, "raw": runs.raw})
    print()
    peers.show(runs, summary, options.rounds)
    _tell(runs, absent, left_out, options)


def _print_rates(measured):
    if "copies" in measured:
        best, far = max(speed for _, speed in measured["copies"]), measured["copies"][-1][1]
        product = max(measured["products"].values())
        said = (
            f"{product / 1e12:.1f} TFLOP/s of products, "
            f"copies {far / 1e9:.0f} GB/s in memory and at most {best / 1e9:.0f}"
        )
        print(f"for the lower bounds: {said}: {measured['source']}", flush=True)
    else:
        reason = measured.get("unsupported") or measured.get("error") or "PyTorch is not installed"
        print(f"no lower bounds: {reason}", flush=True)


def profile(workloads):
    """Times of the launches of a step."""
    from fastnn import backends

    if backends()["cuda"] != "available":
        sys.exit(f"benchmarks/gpu.py --profile: backend 'cuda' is {backends()['cuda']}")
    import gpu_profile

    for workload in workloads:
        gpu_profile.show(workload)


def _tell(runs, absent, left_out, options):
    """What the table lacks, and why."""
    for name, entries in runs.raw.items():
        for engine, entry in entries.items():
            for key in ("unsupported", "error"):
                if key in entry:
                    print(f"{engine} on {name}: {entry[key]}")
    for engine in absent:
        print(f"{engine} is left out: {baselines.GPU[engine][1]} is not installed")
    if left_out:
        print(f"{left_out} runs are left out after {options.budget:g} s: call again with --resume")
    if options.quick:
        print("--quick: these figures are meaningless")
    print(f"figures: {options.json}")


def _old(options):
    """Raw figures of an earlier call. Failures are tried again, except those by time limit."""
    if not (options.resume and os.path.exists(options.json)):
        return {}
    with open(options.json, encoding="utf-8") as file:
        raw = json.load(file)["raw"]
    for entries in raw.values():
        for entry in entries.values():
            entry.pop("unsupported", None)
            if not entry.get("error", "").startswith("took longer"):
                entry.pop("error", None)
    return raw


def _measured(runs, workload, engine, number):
    """Whether that round was measured, or the engine has failed for good."""
    entry = runs.raw.get(workload.name, {}).get(engine, {})
    return (
        len(entry.get("microseconds", [])) >= number or "error" in entry or "unsupported" in entry
    )


def _last(runs, workload, engine):
    times = runs.raw.get(workload.name, {}).get(engine, {}).get("microseconds")
    return report.figure(times[-1]) if times else "–"


def _microseconds(seconds):
    return None if seconds is None else seconds * 1e6


def main():
    parser = arguments.parser(__doc__, baselines.GPU)
    parser.set_defaults(rounds=3)
    parser.add_argument("--only", default="", help="part of a workload's name")
    parser.add_argument(
        "--quick", action="store_true", help="a few steps only, to see whether all runs"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=150.0,
        help="seconds that one run may take, compilation included",
    )
    parser.add_argument("--budget", type=float, help="seconds after which no run is begun any more")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the figures of the file, and measure what they lack",
    )
    parser.add_argument(
        "--profile", action="store_true", help="times of the launches of a step, fastnn alone"
    )
    parser.add_argument(
        "--measure", nargs=2, metavar=("ENGINE", "WORKLOAD"), help=argparse.SUPPRESS
    )
    parser.add_argument("--rates", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.json = options.json or os.path.join(
        os.path.dirname(os.path.abspath(__file__)), "results", f"{options.date}-gpu.json"
    )
    workloads = [workload for workload in GPU_WORKLOADS if options.only in workload.name]
    if not workloads:
        names = "; ".join(workload.name for workload in GPU_WORKLOADS)
        parser.error(f"no workload has {options.only!r} in its name; there are: {names}")
    if options.quick:
        workloads = [
            dataclasses.replace(workload, steps=peers.QUICK_STEPS) for workload in workloads
        ]
    if options.rates:
        print(json.dumps(rates()))
    elif options.measure:
        engine, name = options.measure
        workload = next(workload for workload in workloads if workload.name == name)
        print(json.dumps(measure(engine, workload, options.threads, options.quick)))
    elif options.profile:
        profile(workloads)
    else:
        compare(options, workloads)


if __name__ == "__main__":
    main()
