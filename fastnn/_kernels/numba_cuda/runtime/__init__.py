"""The host's side of a training: what lies on the device when, and what is launched."""
