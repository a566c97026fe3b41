# SPDX-License-Identifier: MIT
"""The cipher of the registration, under AddressSanitizer: NIST's vectors, openssl's, refusals."""

import random
import subprocess
from pathlib import Path

import pytest
from drivers import Run, ask, build
from sanitized import Status

# NIST SP 800-38A, F.2.2: CBC-AES128.Decrypt
KEY = "2b7e151628aed2a6abf7158809cf4f3c"
IV = "000102030405060708090a0b0c0d0e0f"
HIDDEN = (
    "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"
    "73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7"
)  # fmt: skip
PLAIN = (
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)  # fmt: skip


@pytest.fixture(scope="module")
def program() -> Path:
    return build("decrypt", ["decrypt"], ["aes"], "-lcrypto")


def decrypt(program: Path, hidden: str, **more: str) -> Run:
    """Run the driver; ``from`` comes last, as its length is that of the room."""
    return Run(ask(program, **{"key": KEY, "iv": IV, **more, "from": hidden}))


def test_nist_s_vector(program: Path) -> None:
    """Four blocks come out as the standard prints them, and their first block alone does too."""
    for length in (32, 64, 96, 128):
        run = decrypt(program, HIDDEN[:length])
        assert (run.result, run.said["text"]) == (Status.DONE, PLAIN[:length])


@pytest.mark.parametrize("blocks", [1, 2, 255, 1000])
def test_as_openssl_says(program: Path, blocks: int) -> None:
    """Whatever the command hides is found again."""
    plain = random.Random(blocks).randbytes(16 * blocks)
    command = ["openssl", "enc", "-aes-128-cbc", "-nopad", "-K", KEY, "-iv", IV]
    hidden = subprocess.run(command, input=plain, capture_output=True, check=True).stdout
    assert decrypt(program, hidden.hex()).said["text"] == plain.hex()


@pytest.mark.parametrize("length", [0, 1, 15, 17, 31])
def test_what_is_no_whole_block_is_refused(program: Path, length: int) -> None:
    """Not a byte is written where there is room for none."""
    assert decrypt(program, HIDDEN[: 2 * length]).result is Status.OPTIONS


@pytest.mark.parametrize("function", ["new", "init", "update"])
def test_a_libcrypto_that_cannot_is_told_and_leaks_nothing(program: Path, function: str) -> None:
    """Without memory, or without that cipher, the status says so."""
    assert decrypt(program, HIDDEN, fails=function).result is Status.RESOURCES
