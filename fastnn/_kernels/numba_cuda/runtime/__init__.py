"""The host side of a training: what is on the device, and what is launched."""
