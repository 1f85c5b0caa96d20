"""The programs in ``benchmarks/`` measure what they say.

Their networks train, and the lower bound counts the operations that a step takes.
"""

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip(
        "benchmarks/ is not beside the tests: they run without the sources", allow_module_level=True
    )


@pytest.fixture
def module(monkeypatch):
    """Import a module of the folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_summaries_show_ratios_and_fractions_of_the_lower_bound(module, capsys):
    peers = module("peers")
    runs = peers.Runs(["fastnn", "jax", "torch"], quick=True)
    runs.raw = {"a": {engine: {"microseconds": [time]} for engine, time in
                      (("fastnn", 4.0), ("jax", 6.0), ("torch", 8.0))}}  # fmt: skip
    summary = peers.summarise(runs, {"a": 1.0})
    assert summary["ratios"]["a"] == {
        "best": "jax",
        "over_best": 1.5,
        "over_torch": 2.0,
        "lower_bound": 1.0,
        "fraction": 0.25,
    }
    peers.show(runs, summary, 1)
    assert "25 %" in capsys.readouterr().out


def test_every_baseline_has_a_module(module):
    baselines = module("baselines")
    folder = FOLDER / "baselines"
    for table in (baselines.BASELINES, baselines.GPU):
        assert all((folder / f"{name}.py").exists() for name, _ in table.values())
    assert all((folder / f"{name}.py").exists() for name in baselines.BACKENDS.values())


def test_every_workload_trains(module, use_threads):  # the fixture restores the number of threads
    training, workloads = module("baselines").load("fastnn").Training, module("workloads").WORKLOADS
    for workload in workloads:
        short = dataclasses.replace(workload, steps=2)
        X, y = short.data()
        run = training(short, X, y, 1, 0)
        assert np.isfinite(run.epoch()), workload.name
        assert run.predict(X).shape == y.shape


def test_recording_gradient_flow_is_timed(module, use_threads):
    workload = dataclasses.replace(module("workloads").WORKLOADS[2], steps=5)
    found = module("gradient_flow").measure(workload, rounds=2, threads=1)
    assert found["ratio"] > 0
    assert found["recorded"] > 0


def test_workloads_have_names_of_their_own(module):
    names = [workload.name for workload in module("workloads").WORKLOADS]
    assert len(set(names)) == len(names)


def test_the_books_algorithm_is_the_books(module):
    """What `nielsen.py` is timed beside takes the same step."""
    from fastnn.nielsen import network2

    book = module("nielsen").PerSample([6, 4, 3], 0)
    net = network2.Network([6, 4, 3])
    net.weights, net.biases = book.weights, book.biases
    batch = [
        (x[:, None], np.eye(3)[:, [i % 3]])
        for i, x in enumerate(np.random.default_rng(1).normal(size=(5, 6)))
    ]
    book.step(batch, 0.5, 2.0, 20)
    net.update_mini_batch(batch, 0.5, 2.0, 20)
    for ours, theirs in zip(net.weights + net.biases, book.weights + book.biases, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_the_lower_bound_counts_products_and_bytes(module):
    """784-30-10 by hand: forward and weight gradient of both layers, one input gradient."""
    machine, workload = module("machine"), module("workloads").WORKLOADS[0]
    rows = 2 * (2 * (784 * 30 + 30 * 10) + 30 * 10)
    n_bytes = 2 * 4 * (784 * 30 + 30 + 30 * 10 + 10) + 4 * 10 * 784
    at_one_a_second = {
        "peaks": {"any": 1.0},
        "bandwidths": [[size, 1e30] for size in machine.SIZES],
    }
    assert machine.lower_bound(workload, at_one_a_second) == pytest.approx(10 * rows)
    moving = {"peaks": {"any": 1e30}, "bandwidths": [[size, 1.0] for size in machine.SIZES]}
    assert machine.lower_bound(workload, moving) == pytest.approx(n_bytes)


def test_a_first_step_is_timed(module):
    first_step = module("first_step")
    options = first_step.argparse.Namespace(quick=True, threads=1)
    outcome = first_step.timed(["step", "auto", "3"], "again", None, options)
    assert np.isfinite(outcome["loss"])
    assert outcome["seconds"] > 0


def test_first_steps_of_other_numbers_are_told(module):
    outcomes = [{"loss": 2.0}, {"loss": 2.0001}, {"loss": 2.1}, {"error": "no memory"}]
    module("first_step").check_losses(outcomes)
    assert ["error" in outcome for outcome in outcomes] == [False, False, True, True]


def test_files_are_forgotten_where_that_can_be(module, tmp_path):
    cold = module("cold")
    if cold.POSSIBLE:
        (tmp_path / "file").write_text("text")
        cold._forget_file(tmp_path / "file")
        assert (tmp_path / "file").read_text() == "text"


# --- the GPU's ------------------------------------------------------------------------------------


def test_the_gpus_workloads_train_on_a_cpu(module, use_threads):
    """But for the largest, which takes gigabytes."""
    baselines, workloads = module("baselines"), module("workloads").GPU_WORKLOADS
    # Each of PyTorch's graphs takes ten steps.
    assert {workload.steps % 10 for workload in workloads} == {0}
    for workload in workloads[:-1]:
        short = dataclasses.replace(workload, steps=2)
        assert np.isfinite(baselines.load("fastnn").Training(short, *short.data(), 1).epoch()), (
            workload.name
        )


def test_the_gpus_lower_bound_is_the_longer_of_two_times(module):
    gpu, workload = module("gpu"), module("workloads").GPU_WORKLOADS[0]
    operations, state, rows = module("machine").costs(workload)
    slow_products = {"copies": [[2**30, 1e30]], "products": {"any": 1.0}}
    assert gpu.lower_bound(workload, slow_products) == pytest.approx(operations)
    slow_memory = {"copies": [[2**20, 2.0], [2**30, 1.0]], "products": {"any": 1e30}}
    assert gpu.lower_bound(workload, slow_memory) == pytest.approx(2 * state / 2.0 + rows)
    assert gpu.lower_bound(workload, {"error": "no torch"}) is None


def test_without_a_gpu_that_is_said(module, monkeypatch):
    gpu = module("gpu")
    monkeypatch.setattr(gpu.shutil, "which", lambda name: None)
    monkeypatch.setattr("sys.argv", ["gpu.py", "--quick"])
    with pytest.raises(SystemExit, match="no GPU here, so nothing was measured"):
        gpu.main()


def test_runs_on_the_gpu_go_on_where_they_stopped(module, monkeypatch, tmp_path, capsys):
    """Each engine's result is written at once; a second call measures what is missing."""
    gpu, path = module("gpu"), tmp_path / "gpu.json"
    monkeypatch.setattr(
        gpu, "describe", lambda: {"gpus": 1, "gpu": "none", "driver": "0", "versions": {}}
    )
    calls = []

    def run(script, arguments, threads, seconds):
        calls.append(arguments)
        if arguments[0] == "--rates":
            return {"source": "made up", "copies": [[2**30, 1e12]], "products": {"any": 1e13}}
        if arguments[1] == "jax":
            return {"error": "took longer than 1 s"}
        return {"microseconds": 10.0 + (arguments[1] != "fastnn"), "first_epoch": 1.0, "loss": 1.0}

    monkeypatch.setattr(gpu.processes, "run", run)
    monkeypatch.setattr(module("baselines"), "installed", lambda known: ["fastnn", "jax", "torch"])
    monkeypatch.setattr(
        "sys.argv", ["gpu.py", "--only", "16-16-2", "--rounds", "1", "--json", str(path)]
    )
    gpu.main()
    said = capsys.readouterr().out
    assert "jax on 16-16-2 ReLU, Adam, batch 32: took longer than 1 s" in said
    assert "torch.graphs is left out: torch is not installed" in said
    assert "1.10" in said  # time of the fastest baseline, divided by ours
    before = len(calls)
    monkeypatch.setattr(
        "sys.argv",
        ["gpu.py", "--only", "16-16-2", "--rounds", "2", "--resume", "--json", str(path)],
    )
    gpu.main()
    measured = [call[1] for call in calls[before:] if call[0] == "--measure"]
    assert measured == ["fastnn", "torch"]
