# SPDX-License-Identifier: MIT
"""The cipher as Python has it: the cloud's own vector, and lengths that are none."""

import base64

import pytest

from updater.core.httpanswer import Answer
from updater.core.registration import Registrant, parse
from updater.edge.aes import decrypt

# PROTOCOL 2.5: the vendor's example of a registration
PRODUCT_SECRET = "hzvf5LF9S0isvBhDSauWMaIk"
PAYLOAD = "s6FB3a1BA/YYbcmSE12XpeDVmQNDcf1QgVD141RRbmmAnFwQfp1ECAu5O016mCOvYlJJ6V59yM4OqQSiWphfTg=="
PLAIN = b'{"encryptionType":2,"psk":"lDZ6Uqt+I9E0wW7rvDUs7Q=="}'


def test_the_vendor_s_vector() -> None:
    """What the cloud has once sent is what it has said that it is."""
    key, hidden = PRODUCT_SECRET[:16].encode(), base64.b64decode(PAYLOAD)
    assert decrypt(key, b"0" * 16, hidden) == PLAIN.ljust(64, b"\0")


def test_the_vendor_s_answer() -> None:
    """The whole example, from the wire to the secret."""
    body = b'{"Response":{"Len":53,"Payload":"%s","RequestId":"f4da"}}' % PAYLOAD.encode()
    registrant = Registrant("P", "D", PRODUCT_SECRET)
    assert parse(Answer(200, body), registrant, 0, decrypt) == "lDZ6Uqt+I9E0wW7rvDUs7Q=="


@pytest.mark.parametrize(
    ("key", "iv", "hidden"),
    [(15, 16, 16), (17, 16, 16), (16, 0, 16), (16, 17, 16), (16, 16, 0), (16, 16, 17)],
)
def test_other_lengths_never_reach_c(key: int, iv: int, hidden: int) -> None:
    """C reads 16 bytes of key and IV, whatever is there."""
    with pytest.raises(ValueError, match="16 bytes"):
        decrypt(bytes(key), bytes(iv), bytes(hidden))
