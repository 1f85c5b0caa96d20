"""Experiments on how networks are trained: descent, its variants, and overfitting."""
