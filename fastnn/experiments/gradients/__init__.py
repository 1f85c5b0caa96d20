"""Experiments on gradients and signals in deep networks, and on what keeps them alive."""
