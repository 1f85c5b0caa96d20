"""What compiles kernels, whether it is installed, and where their PTX is kept."""
