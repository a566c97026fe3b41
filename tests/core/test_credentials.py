# SPDX-License-Identifier: MIT
"""The signature, held against the protocol's vectors."""

import pytest

from updater.core.credentials import NO_CLOCK_EXPIRY_S, place, sign, topics
from updater.core.errors import ConfigError

SECRET = "AAECAwQFBgcICQoLDA0ODw=="
VECTORS = [
    ("12010126", "A1b2C", 2147483647, "sha256",
     "95a9e4f2864d61ce33bad6bc4afff9b08e020ea37f919331e73518f7c561a881"),
    ("12010126", "A1b2C", NO_CLOCK_EXPIRY_S, "sha1", "f7e7c95c711ff6f5c865ef024c61a11bba747dbb"),
    ("12010126", "A1b2C", 1893456000, "sha256",
     "41739e4c42d77f84b9fe393b9bc86e874c6c57d37e69c00935dc6f029b70049f"),
    ("12010126", "A1b2C", 1893456000, "sha1", "79a5f7b22706367de9eb32d3b262c91d93d01591"),
    ("21010406", "A1b2C", 9223372036854775807, "sha256",
     "89d9ad4fbc3454f4676e2aec5063d08acadba895b4de9cb2da3fbcb2d368c470"),
    ("21010406", "Wr5Qh", 92233720368547758, "sha256",
     "e53443498a83b8a73ba9815239f58c682beebf8b2a02cbb40e360f085de1fb70"),
    ("21010406", "Wr5Qh", 92233720368547758, "sha1", "aef39d3c1467f6d29c5d0879c41f262920b58a19"),
]  # fmt: skip


@pytest.mark.parametrize(("sdkappid", "connid", "expiry_s", "digest", "token"), VECTORS)
def test_vectors(sdkappid: str, connid: str, expiry_s: int, digest: str, token: str) -> None:
    """User name and password are the cloud's, byte for byte."""
    made = sign(
        "ABCDE12345", "dev_01", SECRET,
        connid=connid, expiry_s=expiry_s, sdkappid=sdkappid, digest=digest,
    )  # fmt: skip
    assert made.client_id == "ABCDE12345dev_01"
    assert made.username == f"ABCDE12345dev_01;{sdkappid};{connid};{expiry_s}"
    assert made.password == f"{token};hmac{digest}"
    assert token not in repr(made)


@pytest.mark.parametrize("secret", ["not base64!", "é", "abc", "", " \n", "AAEC!AwQF"])
def test_a_bad_secret_is_a_sentence_without_it(secret: str) -> None:
    """What is wrong is said; the secret is not."""
    with pytest.raises(ConfigError) as caught:
        sign("P", "D", secret, connid="00000", expiry_s=0)
    assert not secret.strip() or secret not in str(caught.value)
    assert "secret is empty or not base64" in str(caught.value)


def test_a_device_name_may_be_any_text() -> None:
    """A broker of one's own has its own rules; the signature is over UTF-8."""
    made = sign("P", "gerät", SECRET, connid="00000", expiry_s=1)
    assert made.username == "Pgerät;12010126;00000;1"
    assert made.password == (
        "0e6dcc129efdd93105b6f41d74f0acc86eb42021184c4e35b7e5d48a439551a5;hmacsha256"
    )


def test_topics() -> None:
    """One to publish on, one to subscribe to."""
    made = topics("P", "D")
    assert (made.report, made.update) == ("$ota/report/P/D", "$ota/update/P/D")


@pytest.mark.parametrize(
    ("path", "where"),
    [("/etc/secret", "/etc/secret"), ("./secret", "./secret"), ("", ""), ("key", "/run/it/key")],
)
def test_a_name_without_a_slash_is_a_systemd_credential(path: str, where: str) -> None:
    """A path stays as it is, and so does none at all."""
    assert place(path, "/run/it") == where
    if path != where:
        for none in (None, ""):
            with pytest.raises(ConfigError, match="key has no slash, so it is a systemd cred"):
                place(path, none)
