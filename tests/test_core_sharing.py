"""Threads on a busy machine: they sleep at barriers, and share a core where that is faster."""

import os
import sys

import pytest
from builders import OUTPUTS, assert_same_bits, features, network, targets

import fastnn as fnn
from fastnn._kernels import core_sharing, cpu_engine, thread_pool, threads
from fastnn._kernels.core_sharing import CoreSharing

needs_affinity = pytest.mark.skipif(
    not core_sharing.SUPPORTED, reason="this system cannot confine a thread to a core"
)
CALM, CROWDED = 1.0, 0.5  # shares of the time that threads get on cores


@pytest.fixture(autouse=True)
def supported(monkeypatch):
    """The decisions are the same wherever the tests run."""
    monkeypatch.setattr(core_sharing, "SUPPORTED", True)
    monkeypatch.setattr(core_sharing, "_others_run", lambda threads: True)


def chunk(sharing, speed, on_cores):
    """A chunk of a second in two threads."""
    sharing.record(speed, 2, 1.0, on_cores * (1 if sharing.shared else 2))


def decisions(speed_apart, speed_shared, on_cores, chunks):
    """Whether each chunk shared a core, at these speeds."""
    sharing, found = CoreSharing(), []
    for _ in range(chunks):
        found.append(sharing.shared)
        chunk(sharing, speed_shared if sharing.shared else speed_apart, on_cores)
    return found


def test_nothing_is_tried_on_an_idle_machine():
    assert not any(decisions(100.0, 1000.0, CALM, 50))


def test_threads_share_a_core_where_that_is_faster():
    found = decisions(100.0, 300.0, CROWDED, 40)
    assert found[:2] == [False, True]  # a trial after the first chunk
    assert 30 < sum(found) < 40  # and now and then a look whether they had better part


def test_threads_stay_apart_where_that_is_faster():
    found = decisions(300.0, 200.0, CROWDED, 40)
    assert 1 < sum(found) < 5  # less and less often


def test_threads_that_are_late_without_other_processes_stay_apart(monkeypatch):
    monkeypatch.setattr(core_sharing, "_others_run", lambda threads: False)
    assert not any(decisions(100.0, 1000.0, CROWDED, 50))


@needs_affinity
def test_the_system_tells_whether_others_run(monkeypatch):
    monkeypatch.undo()
    assert core_sharing._others_run(10**6)
    monkeypatch.setattr(os, "cpu_count", lambda: 10**6)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(10**6))
    assert not core_sharing._others_run(2)


def test_threads_part_when_the_machine_is_idle_again(monkeypatch):
    sharing = CoreSharing()
    for shared, speed in ((False, 100), (True, 300)):
        assert sharing.shared == shared
        chunk(sharing, speed, CROWDED)
    assert sharing.shared
    monkeypatch.setattr(core_sharing, "_others_run", lambda threads: False)
    chunk(sharing, 600.0, CALM)
    assert not sharing.shared
    chunk(sharing, 1000.0, CALM)
    assert not sharing.shared


class Alternating(CoreSharing):
    """Shares a core in every other chunk."""

    def record(self, samples, threads, seconds, cpu_seconds):
        assert samples > 0
        assert threads == 2
        assert 0 <= cpu_seconds < 1.5 * threads * seconds
        self.shared = not self.shared


@needs_affinity
def test_a_shared_core_changes_no_bit(compiled, use_threads, monkeypatch):
    use_threads(2)
    monkeypatch.setattr("fastnn.training.loop._FIRST_CHUNK_OPERATIONS", 1e6)
    X, y, nets = features(400), targets("labels", 400), []
    allowed = os.sched_getaffinity(0)
    for sharing in (CoreSharing, Alternating):
        monkeypatch.setattr(cpu_engine, "CoreSharing", sharing)
        layers = [fnn.Dense(300, "relu"), fnn.BatchNorm(), fnn.Dense(300, "relu")]
        net = network([*layers, fnn.Dense(OUTPUTS)], "softmax_cross_entropy", compiled)
        net.fit(X, y, epochs=6, batch_size=100)
        nets.append(net)
        assert os.sched_getaffinity(0) == allowed
    assert_same_bits(*nets)


@pytest.mark.parametrize("spins", [0, 1])
def test_threads_that_sleep_at_once_meet_all_the_same(compiled, use_threads, monkeypatch, spins):
    """More threads than cores, and every barrier ends with a wake-up."""
    monkeypatch.setattr(core_sharing, "_SPINS", spins)
    nets = []
    for _ in range(2):
        use_threads(4)
        net = network(
            [fnn.Dense(400, "relu"), fnn.BatchNorm(), fnn.Dense(OUTPUTS)], backend=compiled
        )
        net.fit(features(800), targets("values", 800), epochs=20, batch_size=200)
        nets.append(net)
    assert_same_bits(*nets)


@needs_affinity
def test_a_thread_is_confined_only_while_it_works():
    allowed, seen = os.sched_getaffinity(0), []
    core = max(allowed)

    def run(rank, n):
        seen.append(os.sched_getaffinity(0))
        return rank

    done = thread_pool.run_in_threads(2, run, (), False, core)
    assert done.results == [0, 1]
    assert done.cpu_seconds >= 0
    assert done.seconds > 0
    assert seen == [{core}] * 2
    seen.clear()
    thread_pool.run_in_threads(2, run, (), False)
    assert seen == [allowed] * 2
    with pytest.raises(ZeroDivisionError), core_sharing.on_core(core):
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == allowed


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_current_core_is_one_of_those_allowed():
    sharing = CoreSharing()
    assert sharing.core() is None
    sharing.shared = True
    assert sharing.core() in os.sched_getaffinity(0)
    assert sharing.spins == 0


# --- a container's quota --------------------------------------------------------------------------

QUOTAS = {
    "version 2": ({"cpu.max": "150000 100000"}, "0::/", 2),
    "version 2, unlimited": ({"cpu.max": "max 100000"}, "0::/", threads._NO_QUOTA),
    "version 2, a fraction": ({"cpu.max": "20000 100000"}, "0::/", 1),
    "version 2, nested": (
        {"cpu.max": "max 100000", "a/cpu.max": "300000 100000", "a/b/cpu.max": "900000 100000"},
        "0::/a/b",
        3,
    ),
    "version 1": (
        {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"},
        "4:cpu,cpuacct:/x\n3:memory:/",
        3,
    ),
    "version 1, unlimited": (
        {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
        "4:cpu:/",
        threads._NO_QUOTA,
    ),
    "no groups": ({}, "0::/", threads._NO_QUOTA),
}


@pytest.mark.parametrize("case", QUOTAS)
def test_a_containers_quota_limits_the_threads(case, tmp_path):
    files, groups, expected = QUOTAS[case]
    written = {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{n}": t for n, t in files.items()}}
    for name, text in written.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert threads._quota(tmp_path) == expected


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert threads._quota(tmp_path) == threads._NO_QUOTA


def test_the_quota_is_the_default_and_no_limit(monkeypatch):
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_requested", None)
    monkeypatch.setattr(threads, "_quota", lambda: 1)
    assert fnn.num_threads() == 1
    monkeypatch.setenv("FASTNN_NUM_THREADS", "3")
    assert fnn.num_threads() == 3
