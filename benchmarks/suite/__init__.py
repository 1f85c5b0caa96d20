"""fastnn's speed, memory and accuracy over its history, for asv.

Comparisons with baselines are in the folder above. asv imports this package by its path and runs
the benchmarks of the working tree on each commit that it measures. They therefore use fastnn's
public names. `machine`, which uses private ones, is loaded only for the lower bound.
"""

import os
import sys
from pathlib import Path

# Before NumPy loads: threads of BLAS would spin beside the engine's own.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

# asv removes the folder above from sys.path. Programs there import each other by bare names.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
