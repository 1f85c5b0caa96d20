"""Other libraries in the same process, with thread pools of their own.

They change no number, and fastnn leaves their settings alone.
"""

import importlib.util
import json
import subprocess
import sys

import pytest

_TRAIN = """
import hashlib
import json
import sys
import threadpoolctl
library = sys.argv[1]
if library == "torch":
    import torch
    torch.ones(300, 300) @ torch.ones(300, 300)
elif library == "sklearn":
    from sklearn.cluster import KMeans
    import numpy
    KMeans(2, n_init=1).fit(numpy.random.default_rng(0).random((2000, 3)))
elif library == "numpy":
    import numpy
    numpy.ones((300, 300)) @ numpy.ones((300, 300))
import numpy as np
import fastnn as fnn
pools = threadpoolctl.threadpool_info
threads = lambda: {pool["filepath"]: pool["num_threads"] for pool in pools()}
fnn.set_num_threads(2)
rng = np.random.default_rng(0)
X, y = rng.random((1280, 300), dtype=np.float32), rng.integers(0, 10, 1280)
net = fnn.mlp([300, 90, 70, 10], backend=sys.argv[2], seed=3)
before = threads()
losses = net.fit(X, y, epochs=3, batch_size=128, progress=False)["loss"]
after = threads()
changed = [path for path in before if after.get(path) != before[path]]
print(json.dumps([losses, hashlib.sha256(net.state.theta.tobytes()).hexdigest(), changed]))
"""


def trained_beside(library, engine):
    run = subprocess.run(
        [sys.executable, "-c", _TRAIN, library, engine],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize("library", ["numpy", "torch", "sklearn"])
def test_same_bits_beside(library, compiled):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    losses, parameters, changed = trained_beside(library, compiled)
    alone = trained_beside("nobody", compiled)
    assert losses == alone[0]
    assert parameters == alone[1]
    assert changed == []
