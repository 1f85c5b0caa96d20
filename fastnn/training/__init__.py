"""Training: what `Network.fit` calls, the mini-batch loop, L-BFGS, and what is recorded."""
