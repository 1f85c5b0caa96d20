"""The version, where the kernels can read it without importing the package above them."""

__version__ = "0.1.0"
