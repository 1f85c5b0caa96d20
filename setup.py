"""Build script; everything is declared in pyproject.toml. It is here for the compiled extension that will join the package."""

from setuptools import setup

setup()
