"""A GPU or Numba's simulator: memory, streams, graphs and launches."""
