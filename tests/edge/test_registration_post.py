# SPDX-License-Identifier: MIT
"""The POST to the gateway, over real sockets: whom it trusts, how long it waits, what it takes."""

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from fds import descriptors
from sim.cloud import DEVICE, PRODUCT
from sim.gateway import (
    PRODUCT_SECRET,
    Gateway,
    certificate,
    http_answer,
    signature,
)

from updater.core import registration
from updater.core.errors import ConfigError, TransportError
from updater.core.gateway import parse_gateway
from updater.core.httpanswer import MAX_BODY_BYTES, Answer
from updater.core.registration import Registrant
from updater.edge.registration import GatewayConnection

WHO = Registrant(PRODUCT, DEVICE, PRODUCT_SECRET)
SOON_S = 0.4  # the time-out of tests that wait for it


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """A gateway; once it has gone, no descriptor of either side is left."""
    before = descriptors()
    with Gateway() as serving:
        yield serving
    assert descriptors() == before


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def trusted(place: Path) -> ssl.SSLContext:
    return certificate(place / "good", "127.0.0.1", "20200101", "20491231")


def ask(url: str, ca_file: str = "", timeout_s: float = 10.0) -> Answer:
    target = parse_gateway(url)
    request = registration.request(WHO, target, timestamp_s=int(time.time()), nonce=7)
    with closing(GatewayConnection(target, ca_file)) as connection:
        return connection.post(request, timeout_s)


def refusal(url: str, ca_file: str = "", timeout_s: float = 10.0) -> str:
    """Return the sentence."""
    with pytest.raises(TransportError) as caught:
        ask(url, ca_file, timeout_s)
    return str(caught.value)


# --- the request ---------------------------------------------------------------------------------


def test_the_request_arrives_as_it_was_signed(gateway: Gateway) -> None:
    """The gateway's own signature of what came over the wire is the one in the header."""
    assert ask(gateway.url).status == 200
    (request,) = gateway.requests
    assert (request.method, request.path) == ("POST", "/device/register")
    assert request.headers["x-tc-signature"] == signature(request, "hmacsha256", "127.0.0.1")
    assert request.headers["host"] == f"127.0.0.1:{gateway.port}"
    assert gateway.granted.keys() == {DEVICE}


@pytest.mark.parametrize("chunked", [False, True])
def test_answers_arrive_whole(gateway: Gateway, chunked: bool) -> None:
    """With a length or in chunks, in pieces, and at the limit."""
    body = b"x" * MAX_BODY_BYTES
    pieces = [b"%x\r\n%s\r\n" % (4096, body[:4096])] * 4 + [b"0\r\n\r\n"]
    head = b"HTTP/1.1 202 x\r\nTransfer-Encoding: chunked\r\n\r\n"
    gateway.script = lambda _: [head, *pieces] if chunked else [http_answer(body, "202 x")]
    assert ask(gateway.url) == Answer(202, body)


def test_a_whole_answer_is_not_waited_for(gateway: Gateway) -> None:
    """A server that keeps the connection open all the same has answered."""
    gateway.script = lambda _: [http_answer(b"{}"), 30.0]
    began_s = time.monotonic()
    assert ask(gateway.url) == Answer(200, b"{}")
    assert time.monotonic() - began_s < 1.0


def test_an_answer_without_length_ends_with_the_connection(gateway: Gateway) -> None:
    """As HTTP/1.0 has it."""
    gateway.script = lambda _: [b"HTTP/1.0 200 OK\r\n\r\n", 0.02, b"{", 0.02, b"}"]
    assert ask(gateway.url) == Answer(200, b"{}")


# --- whom it trusts ------------------------------------------------------------------------------


def test_a_gateway_of_the_given_authority_is_trusted(place: Path, trusted: ssl.SSLContext) -> None:
    """Over TLS the same conversation takes place."""
    with Gateway(trusted) as gateway:
        assert ask(gateway.url, str(place / "good/ca.pem")).status == 200
        assert gateway.granted


@pytest.mark.parametrize("way", ["SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CERT_DIR, not hashed"])
def test_the_system_s_authorities_are_the_default(
    place: Path, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """In one file, or in a folder where OpenSSL looks each up; a folder without order has none."""
    authorities = place / way
    authorities.mkdir()
    (authorities / "ca.pem").write_bytes((place / "good/ca.pem").read_bytes())
    if way == "SSL_CERT_DIR":
        subprocess.run(["openssl", "rehash", authorities], check=True)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    named = authorities / "ca.pem" if way == "SSL_CERT_FILE" else authorities
    monkeypatch.setenv(way.partition(",")[0], str(named))
    with Gateway(trusted) as gateway:
        if "not" in way:
            assert "certificate is refused" in refusal(gateway.url)
        else:
            assert ask(gateway.url).status == 200


def test_an_unknown_authority_gets_nothing(trusted: ssl.SSLContext) -> None:
    """By the system's CAs the test's own is a stranger, who does not even learn who asks."""
    with Gateway(trusted) as gateway:
        assert "the server's certificate is refused: self-signed" in refusal(gateway.url)
        assert gateway.requests == []


@pytest.mark.parametrize(
    ("name", "address", "begin", "end", "words"),
    [
        ("expired", "127.0.0.1", "20200101", "20200202", "has expired; this device's clock says"),
        ("early", "127.0.0.1", "20480101", "20491231", "not yet valid; this device's clock says"),
        ("other", "127.0.0.2", "20200101", "20491231", "not valid for '127.0.0.1'"),
    ],
)
def test_a_certificate_that_does_not_count_is_told(  # noqa: PLR0913, PLR0917 - a table's row
    place: Path, name: str, address: str, begin: str, end: str, words: str
) -> None:
    """Signed by the right one and of no use here and now; a clock that may be wrong is named."""
    with Gateway(certificate(place / name, address, begin, end)) as gateway:
        assert words in refusal(gateway.url, str(place / name / "ca.pem"))
        assert gateway.requests == []


def test_plaintext_is_no_tls(gateway: Gateway, place: Path, trusted: ssl.SSLContext) -> None:
    """A server that speaks no TLS where it should is told as that."""
    del trusted
    url = gateway.url.replace("http:", "https:")
    assert "TLS fails: " in refusal(url, str(place / "good/ca.pem"))


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_is_none_is_the_configuration_s_mistake(
    tmp_path: Path, content: str | None
) -> None:
    """Nobody is connected to, and the file is named."""
    if content:
        (tmp_path / "ca.pem").write_text(content)
    words = "no certificate in it" if content else "No such file or directory"
    with pytest.raises(ConfigError, match=rf"cannot use the CA file '.*ca\.pem': {words}$"):
        ask("https://127.0.0.1:1/x", str(tmp_path / "ca.pem"))


# --- whom it cannot reach ------------------------------------------------------------------------


def test_nobody_there_is_told() -> None:
    """A closed port, with its number."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    assert refusal(f"http://127.0.0.1:{port}/x") == (
        f"cannot connect to 127.0.0.1:{port}: Connection refused"
    )


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 64 + ".invalid", "a..b"])
def test_a_name_that_is_none_is_told(host: str) -> None:
    """Unknown to DNS, or impossible there."""
    assert f"cannot connect to {host}: " in refusal(f"http://{host}/x")


# --- hostile answers -----------------------------------------------------------------------------


HOSTILE: dict[str, tuple[list[bytes | float], str]] = {
    "nothing": ([], "there is no answer"),
    "no HTTP": ([b"SSH-2.0-dropbear\r\n"], "what came is no HTTP"),
    "a head without end": ([b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 99999], "does not end"),
    "too long": ([http_answer(bytes(MAX_BODY_BYTES + 1))], "longer than 16384 bytes"),
    "a gigabyte": (
        [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + bytes(99999)],
        "longer than 16384 bytes",
    ),
    "a body without end": ([b"HTTP/1.1 200 OK\r\n\r\n" + bytes(99999)], "longer than 16384"),
    "cut off": ([http_answer(bytes(9))[:-1]], "breaks off"),
    "silent": ([30.0], "no answer within 0.4 s"),
    "silent in the middle": ([b"HTTP/1.1 200 OK\r\n", 30.0], "no answer within 0.4 s"),
    "drop by drop": ([b"H", 0.1, b"TTP/1.1 200 ", *[b"O", 0.1] * 99], "no answer within 0.4 s"),
    "headers drop by drop": (
        [b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n", 0.1] * 99],
        "no answer within 0.4 s",
    ),
    "a body drop by drop": (
        [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", *[b"x", 0.1] * 99],
        "no answer within 0.4 s",
    ),
}


@pytest.mark.parametrize(("parts", "words"), HOSTILE.values(), ids=HOSTILE.keys())
def test_whatever_comes_is_over_in_time(
    gateway: Gateway, parts: list[bytes | float], words: str
) -> None:
    """A sentence within the time-out, for what is wrong, slow, huge or lies about its length."""
    gateway.script = lambda _: parts
    began_s = time.monotonic()
    assert words in refusal(gateway.url, timeout_s=SOON_S)
    assert time.monotonic() - began_s < SOON_S + 1.0


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_no_redirect_is_followed(gateway: Gateway, status: str) -> None:
    """The answer is that it redirects: what is signed for one host is for nobody else."""
    with Gateway() as elsewhere:
        headers = f"Location: {elsewhere.url}\r\n"
        gateway.script = lambda _: [http_answer(b"", status, headers)]
        assert ask(gateway.url) == Answer(int(status[:3]), b"")
        assert elsewhere.requests == []


def test_a_proxy_of_the_environment_is_not_asked(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may see the device's traffic is the configuration's to say."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert replace(ask(gateway.url), body=b"").status == 200
