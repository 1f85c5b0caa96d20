"""Helpers that every room may use: checks of arguments, files, progress."""
