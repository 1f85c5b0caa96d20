"""Optimisers and schedules of their learning rate."""
