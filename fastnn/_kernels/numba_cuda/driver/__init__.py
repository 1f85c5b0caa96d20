"""What is asked of a GPU: memory, streams, graphs and launches, or of Numba's simulator."""
