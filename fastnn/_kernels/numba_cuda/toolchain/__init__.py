"""What compiles kernels, whether it is installed, and where the PTX is kept."""
