# SPDX-License-Identifier: MIT
"""AES-128-CBC, backwards: the one cipher that a registration needs and Python does not have."""

from updater._native import ffi, lib
from updater.core.errors import UpdaterError


def decrypt(key: bytes, iv: bytes, hidden: bytes) -> bytes:
    """Return what *hidden* hides, its padding included.

    Args:
        key: 16 bytes.
        iv: 16 bytes.
        hidden: A multiple of 16 bytes, at least one.

    Raises:
        ValueError: A length is none of these.
        UpdaterError: libcrypto has no memory, or not this cipher.
    """
    if len(key) != 16 or len(iv) != 16 or len(hidden) % 16 or not hidden:  # noqa: PLR2004 - AES
        raise ValueError("key and iv have 16 bytes, the rest a multiple of them")
    plain = ffi.new("unsigned char[]", len(hidden))
    if lib.upd_aes128_cbc_decrypt(key, iv, hidden, len(hidden), plain) != lib.UPD_DONE:
        raise UpdaterError("AES-128-CBC: libcrypto has no memory, or not this cipher")
    return bytes(ffi.buffer(plain))
