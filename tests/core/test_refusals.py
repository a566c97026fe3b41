# SPDX-License-Identifier: MIT
"""Each refusal is one sentence that says what to check."""

import errno

import pytest

from updater.core import refusals
from updater.core.errors import LinkError

CLOCK = "1970-01-01 00:01 UTC"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "speaks no MQTT 3.1.1"),
        (2, "check cloud.product_id and cloud.device_name"),
        (3, "the broker is unavailable, or the device is unknown there: check cloud.product_id"),
        (4, f"check the secret, and the device's clock, which says {CLOCK}"),
        (5, "the device is unknown or disabled, or its secret is wrong"),
        (0, "unspecified error"),
        (6, "unspecified error"),
    ],
)
def test_each_return_code_of_connack_has_its_sentence(code: int, words: str) -> None:
    """Pain point 1 of the protocol's page: no opaque codes; the clock is named where it counts."""
    assert refusals.connack(code, CLOCK).startswith("refused: ")
    assert words in refusals.connack(code, CLOCK)


def test_a_refused_subscription_names_the_topic_and_what_to_check() -> None:
    """The broker's access list, and the two names that the topic is made of."""
    assert refusals.subscription("$ota/update/P/D") == (
        "the broker refuses the subscription to $ota/update/P/D: check what it allows this device, "
        "and cloud.product_id and cloud.device_name"
    )


@pytest.mark.parametrize(
    ("code", "words", "is_clock_suspect"),
    [
        (9, f"is not valid yet: the device's clock is wrong, it says {CLOCK}", True),
        (10, f"has expired, or the device's clock is wrong, which says {CLOCK}", True),
        (18, "is from an unknown CA: check cloud.ca_file or the system's CAs (own words)", False),
        (19, "is from an unknown CA", False),
        (20, "is from an unknown CA", False),
        (62, "is for another name than broker.example: check cloud.host", False),
        (64, "is for another name than broker.example: check cloud.host", False),
        (23, "is revoked", False),
        (26, "is refused: own words", False),
    ],
)
def test_each_verdict_on_a_certificate_has_its_sentence(
    code: int, words: str, is_clock_suspect: bool
) -> None:
    """A clock that is wrong is a suspect exactly where time was judged."""
    error = refusals.certificate(code, "own words", host="broker.example", clock=CLOCK)
    assert str(error).startswith("TLS: the broker's certificate ")
    assert words in str(error)
    assert error.is_clock_suspect is is_clock_suspect


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "wants a device certificate: see cloud.client_cert"),
        ("TLSV1_ALERT_UNKNOWN_CA", "the authority of the device's certificate"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "the device's certificate has expired"),
        ("SSLV3_ALERT_CERTIFICATE_REVOKED", "the device's certificate is revoked"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "refuses the device's certificate"),
        ("SSLV3_ALERT_CERTIFICATE_UNKNOWN", "refuses the device's certificate"),
        ("TLSV1_ALERT_ACCESS_DENIED", "the device is unknown or disabled"),
        ("TLSV1_ALERT_UNKNOWN_PSK_IDENTITY", "the device is unknown to the broker"),
        ("TLSV1_ALERT_DECRYPT_ERROR", "the device's secret or key is wrong"),
        ("SSLV3_ALERT_BAD_RECORD_MAC", "check cloud.secret_file"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "or TLS-PSK (cloud.auth)"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "no TLS 1.2 or newer"),
        ("UNSUPPORTED_PROTOCOL", "no TLS 1.2 or newer"),
        ("TLSV1_UNRECOGNIZED_NAME", "check cloud.host"),
        ("WRONG_VERSION_NUMBER", "speaks no TLS: check cloud.port and cloud.allow_plaintext"),
        ("UNEXPECTED_EOF_WHILE_READING", "ends the connection: check cloud.port"),
        ("LENGTH_MISMATCH", "TLS: length mismatch"),
        ("", "TLS: failed"),
    ],
)
def test_each_end_of_tls_has_its_sentence(reason: str, words: str) -> None:
    """The broker's alerts, our own errors, and those that have no sentence yet."""
    error = refusals.tls(reason)
    assert isinstance(error, LinkError)
    assert words in str(error)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ECONNREFUSED, "nobody listens there: check cloud.port, and that the broker runs"),
        (errno.ENETUNREACH, "no route to it: check the device's network (own word)"),
        (errno.EHOSTUNREACH, "no route to it: check the device's network"),
        (errno.ETIMEDOUT, "timed out: check the network, and that no firewall"),
        (errno.ECONNRESET, "check cloud.port and cloud.transport"),
        (errno.EACCES, "own word"),
    ],
)
def test_each_end_of_tcp_has_its_sentence(code: int, words: str) -> None:
    """What errno means for whoever has to mend it."""
    assert words in str(refusals.network(code, "own word"))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-2, "the name is not known: check cloud.host"),
        (-5, "the name is not known: check cloud.host"),
        (-3, "no name server answers: check the device's network and its DNS"),
        (-4, "the name cannot be looked up: own word"),
    ],
)
def test_each_end_of_a_lookup_has_its_sentence(code: int, words: str) -> None:
    """A name that is not there is told from a name server that is not there."""
    assert str(refusals.lookup(code, "own word")) == words


@pytest.mark.parametrize(
    ("code", "is_greeted", "said"),
    [
        (0, True, "the broker has closed the connection"),
        (errno.ECONNRESET, True, "the broker has closed the connection"),
        (errno.ETIMEDOUT, True, "connection lost: own word"),
        (
            0,
            False,
            "the broker has closed the connection without an answer: "
            "check cloud.port, cloud.allow_plaintext and the login",
        ),
        (errno.ENETDOWN, False, "connection lost: own word"),
    ],
)
def test_each_loss_has_its_sentence(code: int, is_greeted: bool, said: str) -> None:
    """Before the greeting the settings are suspects; after it, only who has ended it counts."""
    assert refusals.loss(code, "own word", is_greeted=is_greeted) == said
