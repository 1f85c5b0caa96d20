"""The training loop, L-BFGS, and what `fit` records."""
