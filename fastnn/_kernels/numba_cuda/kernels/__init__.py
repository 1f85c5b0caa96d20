"""The device code: the kernels and all that they are compiled from."""
