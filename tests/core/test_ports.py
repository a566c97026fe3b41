# SPDX-License-Identifier: MIT
"""The seams: what crosses them keeps its secrets."""

from updater.core.ports import InstallRequest


def test_a_request_is_strict_unless_told_otherwise() -> None:
    """Encrypted, read back, within 10 s of connecting and 30 s of silence, in 8 MiB."""
    request = InstallRequest("https://example.invalid/f", "/dev/p3", 4096, "0" * 32)
    assert not request.allow_plaintext
    assert request.read_back
    assert (request.connect_timeout_s, request.stall_timeout_s) == (10.0, 30.0)
    assert request.buffers * request.buffer_bytes == 8 << 20


def test_an_install_request_never_shows_its_source() -> None:
    """It is a signed URL."""
    request = InstallRequest("https://example.invalid/f?sign=secret", "/dev/p3", 4096, "0" * 32)
    assert repr(request) == f"InstallRequest(to /dev/p3, 4096 bytes, md5 {'0' * 32})"
