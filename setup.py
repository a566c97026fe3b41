# SPDX-License-Identifier: MIT
"""Builds the native module; everything else stands in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=["native/build.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
