"""Threads and forks: first uses at once, forks while kernels load, predictions beside training."""

import threading
from pathlib import Path

import numpy as np

import fastnn as fnn
from campaigns.children import run
from campaigns.running import check

_ENGINES = [name for name in ("numpy", "numba", "cython") if fnn.backends()[name] == "available"]
_WARNINGS = ("-W", "error", "-W", "ignore:.*fork.*:DeprecationWarning")  # of forks beside threads

FIRST_USES = """
import sys, threading, time
import fastnn as fnn
engine, n, delay = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
found, together = [], threading.Barrier(n)
def use(rank):
    together.wait()
    time.sleep(rank * delay / n)
    net = fnn.mlp([4, 3, 2], backend=engine)
    if rank % 2:
        net.fit([[1, 2, 3, 4]] * 9, [0, 1, 1] * 3, progress=False)
    found.append(net.predict([[1, 2, 3, 4]]).shape)
threads = [threading.Thread(target=use, args=(rank,)) for rank in range(n)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert found == [(1, 2)] * n
"""

FORK_WHILE_LOADING = """
import os, sys, threading, time
import fastnn as fnn
engine, n, delay = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
net = fnn.mlp([4, 3, 2], backend=engine)
loader = threading.Thread(target=net.predict, args=([[1, 2, 3, 4]],))
loader.start()
time.sleep(delay)
child = os.fork()
if child == 0:
    fnn.mlp([4, 3, 2], backend=engine).fit([[1, 2, 3, 4]] * 9, [0, 1, 1] * 3)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
loader.join()
"""

INTERRUPTED = """
import signal, sys, time
import numpy as np
import scipy.linalg.blas
import fastnn as fnn
from threadpoolctl import threadpool_info
engine, n, delay = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
net = fnn.mlp([200, 300, 300, 10], backend=engine)
X, y = np.ones((500, 200)), np.arange(500) % 10
fnn.set_num_threads(2)
right = net.predict(X)
limits = lambda: [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
before = limits()
signal.signal(signal.SIGALRM, signal.default_int_handler)
for i in range(20):
    try:
        signal.setitimer(signal.ITIMER_REAL, delay * (i + 1) / 100)
        while True:
            net.predict(X)
    except KeyboardInterrupt:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
net.predict(X)
deadline = time.monotonic() + 10
while limits() != before and time.monotonic() < deadline:
    time.sleep(0.01)
assert limits() == before, (limits(), before)
assert np.array_equal(net.predict(X), right)
"""

_SCRIPTS = {"first uses": FIRST_USES, "fork": FORK_WHILE_LOADING, "interrupts": INTERRUPTED}


class Campaign:
    """Processes that use fastnn from several threads, and threads of this process."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.X = np.random.default_rng(0).normal(size=(300, 8)).astype("float32")
        for engine in _ENGINES:  # compiles
            fnn.mlp([8, 3, 2], backend=engine).fit(self.X, np.arange(300) % 2, progress=False)

    def attempt(self, rng: np.random.Generator) -> str:
        engine = _ENGINES[rng.integers(len(_ENGINES))]
        kind = [*_SCRIPTS, "predictions beside training"][rng.integers(len(_SCRIPTS) + 1)]
        n, delay = int(rng.integers(2, 17)), rng.uniform(0, 0.3)
        if kind in _SCRIPTS:
            arguments = (*_WARNINGS, "-c", _SCRIPTS[kind], engine, str(n), f"{delay:.6f}")
            status, out, err = run(*arguments, folder=self.folder)
            check((status, out, err) == (0, "", ""), f"{kind}, {engine}: {status}, {err}")
        else:
            self._predict_beside_training(engine, n)
        return f"{engine}: {kind}"

    def _predict_beside_training(self, engine: str, n: int) -> None:
        """Predictions of one network, and of copies, while another one trains."""
        trained, used = (fnn.mlp([8, 16, 2], seed=s, backend=engine) for s in (0, 1))
        right, wrong, done = used.predict(self.X), [], threading.Event()

        def predict() -> None:
            net = used if n % 2 else used.copy()
            while not done.is_set():
                if not np.array_equal(net.predict(self.X), right):
                    wrong.append(threading.get_ident())
                    return

        threads = [threading.Thread(target=predict) for _ in range(min(n, 4))]
        for thread in threads:
            thread.start()
        try:
            trained.fit(self.X, np.arange(300) % 2, epochs=5, progress=False)
        finally:
            done.set()
            for thread in threads:
                thread.join()
        check(not wrong, f"{engine}: other predictions beside a training")
        alone = fnn.mlp([8, 16, 2], seed=0, backend=engine)
        alone.fit(self.X, np.arange(300) % 2, epochs=5, progress=False)
        same = np.array_equal(alone.predict(self.X), trained.predict(self.X))
        check(same, f"{engine}: another training beside predictions")
