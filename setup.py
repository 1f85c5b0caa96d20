"""What pyproject.toml cannot declare: the compiled modules of the Cython engine."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).parent / "tools"))  # not there in an isolated build

from build_kernels import BuildKernels, extensions

setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels})
