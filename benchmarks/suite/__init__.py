"""fastnn's speed, memory and accuracy over its history, for asv; what is measured beside rivals is
in the folder above.

asv imports this package by its path and takes the benchmarks of the working tree to whatever commit
it measures. They therefore use fastnn's public names; `machine`, which needs the kernels' own, is
loaded only where the floor is asked for.
"""

import os
import sys
from pathlib import Path

# Before NumPy loads: threads of BLAS would spin beside the engine's own.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

# asv keeps the folder above from sys.path, for what else may lie there. Its programs import each
# other by their bare names.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
