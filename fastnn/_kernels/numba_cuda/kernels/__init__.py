"""The device's side: the kernels and all that they are compiled from."""
