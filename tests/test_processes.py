"""What a process does around the engines: threads, forks, signals, the end of the main thread."""

import io
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from builders import COMPILED

import fastnn as fnn
from fastnn._kernels import loading, scipy_blas, thread_pool
from fastnn.training.interrupts import request_stop

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks of POSIX")


def script(code, *arguments, **options):
    """What a process printed that ran to its end."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, **options
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=COMPILED)
def name(request):
    """An engine whose kernels are compiled, so that processes need only load them."""
    fnn.mlp([4, 3, 2], backend=request.param).predict(np.zeros((1, 4)))
    return request.param


# --- threads --------------------------------------------------------------------------------------

FIRST_USES = """
import sys, threading
import fastnn as fnn
together, found = threading.Barrier(8), []
def use():
    together.wait()
    found.append(fnn.mlp([4, 3, 2], backend=sys.argv[1]).predict([[1, 2, 3, 4]]).tolist())
threads = [threading.Thread(target=use) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(found) == 8 and all(each == found[0] for each in found)
import scipy.linalg.cython_blas
"""


@pytest.mark.parametrize("attempt", range(3))
def test_the_first_use_may_come_from_several_threads_at_once(name, attempt):
    script(FIRST_USES, name)


def test_blas_is_imported_with_its_package_where_other_threads_may_import_it(monkeypatch):
    monkeypatch.delitem(sys.modules, scipy_blas._PACKAGE, raising=False)
    assert not scipy_blas._other_threads()
    end = threading.Event()
    for name, counts in (("fastnn", False), ("user's", True)):
        thread = threading.Thread(target=end.wait, name=name)
        thread.start()
        try:
            assert scipy_blas._other_threads() == counts
        finally:
            end.set()
            thread.join()
            end.clear()


AFTER_THE_MAIN_THREAD = """
import sys, threading, time
import fastnn as fnn
net = fnn.mlp([784, 300, 300, 10], backend=sys.argv[1])
fnn.set_num_threads(2)
def use():
    threading.main_thread().join()
    time.sleep(0.1)
    print(net.predict([[0.5] * 784] * 2000).shape, flush=True)
    net.fit([[0.5] * 784] * 200, [1] * 200, batch_size=100)
    print("trained", flush=True)
threading.Thread(target=use).start()
"""


def test_a_thread_may_use_a_network_first_after_the_main_thread_ended(name):
    assert script(AFTER_THE_MAIN_THREAD, name) == "(2000, 10)\ntrained\n"


# --- forks ----------------------------------------------------------------------------------------


@posix
def test_a_fork_waits_until_kernels_are_loaded():
    """Or the child would inherit a lock that nobody releases."""
    forked, release = threading.Event(), threading.Event()

    def load():
        with loading.loading:
            forked.set()
            release.wait()

    loader = threading.Thread(target=load)
    loader.start()
    forked.wait()
    threading.Timer(0.2, release.set).start()
    child = os.fork()
    if child == 0:
        os._exit(0 if release.is_set() and loading.loading.acquire(timeout=5) else 1)
    assert os.waitpid(child, 0)[1] == 0
    loader.join()


FORK_WHILE_LOADING = """
import os, sys, threading, time
import fastnn as fnn
net = fnn.mlp([4, 3, 2], backend=sys.argv[1])
loader = threading.Thread(target=net.predict, args=([[1, 2, 3, 4]],))
loader.start()
time.sleep(float(sys.argv[2]))
child = os.fork()
if child == 0:
    fnn.mlp([4, 3, 2], backend=sys.argv[1]).fit([[1, 2, 3, 4]] * 9, [0, 1, 1] * 3)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
loader.join()
"""


@posix
@pytest.mark.parametrize("after", ["0", "0.1", "0.4"])
def test_a_child_forked_while_the_parent_loads_kernels_trains(name, after):
    options = ["-W", "ignore::DeprecationWarning"]  # of forks beside threads, from Python 3.12 on
    command = [sys.executable, *options, "-c", FORK_WHILE_LOADING, name, after]
    subprocess.run(command, timeout=120, check=True)


# --- Ctrl-C and BLAS ------------------------------------------------------------------------------


def blas_threads():
    return [
        library["num_threads"]
        for library in thread_pool._blas_libraries().info()
        if library["user_api"] == "blas"
    ]


@posix
def test_ctrl_c_leaves_blas_as_it_was():
    """It may come at any moment: between any two steps of Python's."""
    import scipy.linalg.blas  # noqa: F401  loads a BLAS

    thread_pool._blas_libraries.cache_clear()
    before, interrupted = blas_threads(), 0
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for delay in np.linspace(1e-5, 2e-3, 60):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0)
                previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
                signal.setitimer(signal.ITIMER_REAL, delay)
                thread_pool.run_in_threads(2, lambda rank, n: time.sleep(1e-4) or 0, (), True)
                time.sleep(3e-3)
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, previous)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert interrupted > 30
    thread_pool._in_setter(lambda: None)  # after all that were asked for
    assert blas_threads() == before
    assert not thread_pool._blas_users


# --- signals --------------------------------------------------------------------------------------


@posix
def test_an_ignored_ctrl_c_stays_ignored():
    """As after ``nohup``, or in a shell's background job."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupt = Hook(lambda training: os.kill(os.getpid(), signal.SIGINT))
        history = fnn.mlp([2, 3, 2]).fit(np.eye(2), [0, 1], epochs=3, callbacks=[interrupt])
        assert history.stopped is None
        assert len(history["loss"]) == 3
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


class Hook:
    def __init__(self, run):
        self.on_epoch_end = run


def test_another_signals_handler_may_end_a_training():
    assert not request_stop()
    seen = []
    hook = Hook(lambda training: seen.append(request_stop()))
    history = fnn.mlp([2, 3, 2]).fit(np.eye(2), [0, 1], epochs=9, callbacks=[hook])
    assert (history.stopped, seen) == ("interrupted", [True])
    assert not request_stop()


# --- standard error -------------------------------------------------------------------------------


class NoMethods:
    """What notebooks and loggers put in the place of a stream."""

    def write(self, text):
        return len(text)

    def flush(self):
        pass


class LostTerminal(NoMethods):
    """A terminal that was closed while the program runs."""

    encoding = "cp1252"

    def isatty(self):
        return True

    def write(self, text):
        raise OSError(5, "Input/output error")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [lambda: None, NoMethods, closed, LostTerminal])
def test_training_needs_no_standard_error(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())
    history = fnn.mlp([2, 3, 2]).fit(np.eye(2), [0, 1], epochs=3)
    assert len(history["loss"]) == 3
