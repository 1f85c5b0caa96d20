"""Memory that training takes."""

import dataclasses

from .engines import ENGINES, check, confine, network, options, workload

_NAMES = [
    "784-30-10 sigmoid, SGD, batch 10",
    "784-1024-1024-10 ReLU, Adam, batch 256",
    "784, fifty of 64, 10 ReLU, Adam, batch 128",
]
_STEPS = 5  # more would only be more data


class Memory:
    """Peak memory of a process that trains one network, libraries and data included."""

    params = (_NAMES, ENGINES)
    param_names = ("workload", "engine")

    def setup_cache(self):
        """Check, and compile if there is no cache: in a separate process, as both take memory."""
        for name in _NAMES:
            for engine in ENGINES:
                check(workload(name, engine), engine)

    def setup(self, name, engine):
        confine(engine, 1)

    def peakmem_training(self, name, engine):
        of = dataclasses.replace(workload(name, engine), steps=_STEPS)
        network(of, engine).fit(*of.data(), **options(of))
