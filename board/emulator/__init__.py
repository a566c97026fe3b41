# SPDX-License-Identifier: MIT
"""An emulated board, as real as can be: U-Boot and Linux built from source, QEMU around them.

For tests and the demo; nothing here runs on a device. What is built is kept in the cache folder,
under a key made of everything that it was built from.
"""
