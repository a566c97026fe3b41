# SPDX-License-Identifier: MIT
"""Why there is no link, in words: one sentence for each refusal, which says what to check.

Edges bring the facts as numbers and names: CONNACK codes, verify codes and alerts of OpenSSL,
errno, codes of getaddrinfo(3). Times are texts, for the device's clock is itself a suspect.
"""

import errno

from updater.core.errors import LinkError

_NOT_YET_VALID, _EXPIRED = 9, 10  # verify codes, x509_vfy.h
_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}
_OTHER_NAME = {62, 63, 64}
_REVOKED = 23
_UNKNOWN_NAME = {-2, -5}  # EAI_NONAME and EAI_NODATA, netdb.h
_NO_ANSWER = -3  # EAI_AGAIN

_NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}
ENDED_BY_PEER = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})

_CONNACK = {
    1: "the broker speaks no MQTT 3.1.1",
    2: "the broker refuses the client id: check cloud.product_id and cloud.device_name",
    3: "the broker is unavailable, or the device is unknown there: "
    "check cloud.product_id and cloud.device_name",
    4: "bad user name or password: check the secret, and the device's clock, which says {clock}",
    5: "not authorised: the device is unknown or disabled, or its secret is wrong",
}

# The first whose name is within that of OpenSSL's error; an alert is what the broker says.
_TLS = {
    "ALERT_CERTIFICATE_REQUIRED": "the broker wants a device certificate: see "
    "cloud.client_cert_file",
    "ALERT_UNKNOWN_CA": "the broker does not know the authority of the device's certificate: "
    "check cloud.client_cert_file",
    "ALERT_CERTIFICATE_EXPIRED": "the broker says that the device's certificate has expired",
    "ALERT_CERTIFICATE_REVOKED": "the broker says that the device's certificate is revoked",
    "CERTIFICATE": "the broker refuses the device's certificate: check cloud.client_cert_file, "
    "and whether it is valid yet",
    "ALERT_ACCESS_DENIED": "the broker denies access: the device is unknown or disabled",
    "ALERT_UNKNOWN_PSK_IDENTITY": "the device is unknown to the broker: check cloud.product_id "
    "and cloud.device_name",
    "ALERT_DECRYPT_ERROR": "the broker cannot read us: the device's secret or key is wrong",
    "BAD_RECORD_MAC": "broker and device do not share one secret: check cloud.secret_file and "
    "the name of the device",
    "ALERT_HANDSHAKE_FAILURE": "broker and device find no common way: perhaps it wants a device "
    "certificate (cloud.client_cert_file), or TLS-PSK (cloud.auth)",
    "PROTOCOL_VERSION": "the broker speaks no TLS 1.2 or newer",
    "UNSUPPORTED_PROTOCOL": "the broker speaks no TLS 1.2 or newer",
    "UNRECOGNIZED_NAME": "the broker does not go by this name: check cloud.host",
    "WRONG_VERSION_NUMBER": "what answers there speaks no TLS: check cloud.port and "
    "cloud.allow_plaintext",
    "EOF": "the broker ends the connection: check cloud.port, and whether it wants a device "
    "certificate (cloud.client_cert_file)",
}


def connack(code: int, clock: str) -> str:
    """Return what return code *code* of CONNACK means; *clock* is the device's time."""
    return "refused: " + _CONNACK.get(code, "unspecified error").format(clock=clock)


def subscription(topic: str) -> str:
    """Return what a refused SUBACK for *topic* means."""
    return (
        f"the broker refuses the subscription to {topic}: check what it allows this device, "
        "and cloud.product_id and cloud.device_name"
    )


def certificate(code: int, text: str, *, host: str, clock: str) -> LinkError:
    """Return why the broker's certificate is refused.

    Args:
        code: OpenSSL's verify code.
        text: Its own words, for codes that have no sentence here.
        host: The name that was to be proven.
        clock: The device's time.
    """
    if code == _NOT_YET_VALID:
        words = f"is not valid yet: the device's clock is wrong, it says {clock}"
    elif code == _EXPIRED:
        words = f"has expired, or the device's clock is wrong, which says {clock}"
    elif code in _UNKNOWN_AUTHORITY:
        words = f"is from an unknown CA: check cloud.ca_file or the system's CAs ({text})"
    elif code in _OTHER_NAME:
        words = f"is for another name than {host}: check cloud.host"
    elif code == _REVOKED:
        words = "is revoked"
    else:
        words = f"is refused: {text}"
    is_clock_suspect = code in {_NOT_YET_VALID, _EXPIRED}
    return LinkError(f"TLS: the broker's certificate {words}", is_clock_suspect=is_clock_suspect)


def tls(reason: str) -> LinkError:
    """Return why TLS has failed; *reason* is the name of OpenSSL's error."""
    for part, words in _TLS.items():
        if part in reason:
            return LinkError(f"TLS: {words}")
    return LinkError(f"TLS: {reason.lower().replace('_', ' ') or 'failed'}")


def network(code: int, text: str) -> LinkError:
    """Return why there is no connection; *text* is the system's own word for errno *code*."""
    if code == errno.ECONNREFUSED:
        return LinkError("nobody listens there: check cloud.port, and that the broker runs")
    if code in _NO_ROUTE:
        return LinkError(f"no route to it: check the device's network ({text})")
    if code == errno.ETIMEDOUT:
        return LinkError("timed out: check the network, and that no firewall keeps this port shut")
    if code in ENDED_BY_PEER:
        return LinkError("the other side ends the connection: check cloud.port and cloud.transport")
    return LinkError(text)


def lookup(code: int, text: str) -> LinkError:
    """Return why the name has no address; *text* is the resolver's own word for *code*."""
    if code in _UNKNOWN_NAME:
        return LinkError("the name is not known: check cloud.host")
    if code == _NO_ANSWER:
        return LinkError("no name server answers: check the device's network and its DNS")
    return LinkError(f"the name cannot be looked up: {text}")


def loss(code: int, text: str, *, is_greeted: bool) -> str:
    """Return why a connection is over that stood.

    Args:
        code: The errno of its end; 0 if the broker has closed it.
        text: The system's own word for that.
        is_greeted: False before the broker's CONNACK.
    """
    if code and code not in ENDED_BY_PEER:
        return f"connection lost: {text}"
    if not is_greeted:
        return (
            "the broker has closed the connection without an answer: "
            "check cloud.port, cloud.allow_plaintext and the login"
        )
    return "the broker has closed the connection"
