# SPDX-License-Identifier: MIT
"""Dynamic registration: the protocol's vectors, and no answer that breaks or betrays anything."""

import base64
import json
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.core import registration
from updater.core.errors import ConfigError, LinkError, TransportError, UpdaterError
from updater.core.gateway import parse_gateway
from updater.core.httpanswer import Answer
from updater.core.registration import Registrant

HOST = "ap-guangzhou.gateway.tencentdevices.com"
WHO = Registrant("PRODUCT_ID1", "DEVICENAME1", "PRODUCT_SECRETKEY")
NOW_S, NONCE = 1629362589, 333464802
SIGNATURES = {
    "sha1": "7u3+tAPlt8O4mPpBm3lambv23sw=",
    "sha256": "69kjTTAAkL07xH0GQoEn44Zmp0BusuM7TepzEwuTXNM=",
}
PSK = "lDZ6Uqt+I9E0wW7rvDUs7Q=="
GRANT = b'{"encryptionType":2,"psk":"lDZ6Uqt+I9E0wW7rvDUs7Q=="}'
HIDDEN = bytes(len(GRANT) + -len(GRANT) % 16)
CANARY = "tops3cretPart"


def answer(
    plain: object = GRANT, *, status: int = 200, **changed: object
) -> tuple[Answer, registration.Decrypt]:
    """Return an answer that grants *plain*, and what "decrypts" it; None takes a member away."""
    raw = plain if isinstance(plain, bytes) else json.dumps(plain).encode()
    hidden = bytes(len(raw) + -len(raw) % 16)
    usual = {"Len": len(raw), "Payload": base64.b64encode(hidden).decode(), "RequestId": "x"}
    members = {key: value for key, value in (usual | changed).items() if value is not None}
    body = json.dumps({"Response": members}).encode()
    return Answer(status, body), lambda _key, _iv, _hidden: raw.ljust(len(hidden), b"\0")


def parsed(given_answer: tuple[Answer, registration.Decrypt]) -> str:
    return registration.parse(given_answer[0], WHO, NOW_S, given_answer[1])


def refused(error: object, status: int = 200) -> UpdaterError:
    body = json.dumps({"Response": {"Error": error, "RequestId": "x"}}).encode()
    with pytest.raises(UpdaterError) as caught:
        registration.parse(Answer(status, body), WHO, NOW_S, never)
    return caught.value


def never(_key: bytes, _iv: bytes, _hidden: bytes) -> bytes:
    raise AssertionError("there is nothing to decrypt")


def whole_story(error: BaseException) -> str:
    """Everything that a log, a traceback or a debugger could show of *error*."""
    parts = traceback.format_exception(error)
    link: BaseException | None = error
    while link is not None:
        parts += [str(link), repr(link.args), repr(vars(link))]
        link = link.__cause__ or link.__context__
    return "".join(parts)


# --- the request ---------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", SIGNATURES)
def test_the_vendor_s_signature(digest: str) -> None:
    """The protocol's vectors of 2.5, by SHA-1 and by SHA-256."""
    signature = registration.sign(
        WHO, host=HOST, path="/device/register", timestamp_s=NOW_S, nonce=NONCE, digest=digest
    )
    assert signature == SIGNATURES[digest]


def test_the_request_goes_out_byte_for_byte() -> None:
    """All of it, as the cloud expects it; the host is signed without its port."""
    gateway = parse_gateway(f"https://{HOST}/device/register")
    raw = registration.request(WHO, gateway, timestamp_s=NOW_S, nonce=NONCE)
    assert raw == (
        b"POST /device/register HTTP/1.1\r\n"
        b"Host: ap-guangzhou.gateway.tencentdevices.com\r\n"
        b"Connection: close\r\n"
        b"Accept: application/json\r\n"
        b"Accept-Encoding: identity\r\n"
        b"Content-Type: application/json; charset=utf-8\r\n"
        b"Content-Length: 54\r\n"
        b"X-TC-Algorithm: hmacsha256\r\n"
        b"X-TC-Timestamp: 1629362589\r\n"
        b"X-TC-Nonce: 333464802\r\n"
        b"X-TC-Signature: 69kjTTAAkL07xH0GQoEn44Zmp0BusuM7TepzEwuTXNM=\r\n"
        b"\r\n"
        b'{"ProductId":"PRODUCT_ID1","DeviceName":"DEVICENAME1"}'
    )
    elsewhere = parse_gateway(f"https://{HOST}:8443/device/register")
    moved = registration.request(WHO, elsewhere, timestamp_s=NOW_S, nonce=NONCE)
    assert moved == raw.replace(HOST.encode(), f"{HOST}:8443".encode())


@pytest.mark.parametrize("secret", ["", "fifteen letters", "sixteen letters\xe4"])
def test_a_product_secret_that_is_none_is_told_without_it(secret: str) -> None:
    """Its first 16 characters are a key: with fewer nobody is asked anything."""
    with pytest.raises(ConfigError, match="16 characters") as caught:
        Registrant("P", "D", secret)
    assert not secret or secret not in whole_story(caught.value)


def test_nothing_shows_the_secrets() -> None:
    """The product secret and the gateway's answer are in no representation."""
    assert WHO.product_secret not in repr(WHO)
    assert "psk" not in repr(Answer(200, GRANT))


# --- the answer ----------------------------------------------------------------------------------


def test_the_key_is_the_product_secret_s_beginning() -> None:
    """AES gets 16 characters of the product secret, 16 times the character 0, and the payload."""
    given_answer, decrypt = answer()
    asked = []

    def watched(key: bytes, iv: bytes, hidden: bytes) -> bytes:
        asked.append((key, iv, hidden))
        return decrypt(key, iv, hidden)

    assert registration.parse(given_answer, WHO, NOW_S, watched) == PSK
    assert asked == [(b"PRODUCT_SECRETKE", b"0" * 16, HIDDEN)]


@pytest.mark.parametrize(
    "changed",
    [
        {"Len": None}, {"Len": 0}, {"Len": -1}, {"Len": 10**9}, {"Len": "53"}, {"Len": True},
        {"Len": 53.0}, {"RequestId": None}, {"Unknown": [1]},
    ],
)  # fmt: skip
def test_a_length_that_lies_does_no_harm(changed: dict[str, object]) -> None:
    """Where Len makes no sense the padding's zeros tell where the text ends."""
    assert parsed(answer(**changed)) == PSK


def test_a_length_cuts_off_what_is_no_zero() -> None:
    """Whatever stands behind the announced length is padding."""
    given_answer, _decrypt = answer()
    padded = GRANT.ljust(len(HIDDEN), b"\x0b")
    assert registration.parse(given_answer, WHO, NOW_S, lambda *_: padded) == PSK


@pytest.mark.parametrize("kind", [2, "2"])
@pytest.mark.parametrize("size", [1, 16, 32, 64])
def test_any_secret_that_can_sign_is_taken(kind: object, size: int) -> None:
    """The cloud grants once: its secret is not refused for a length that is new to us."""
    secret = base64.b64encode(bytes(range(size))).decode()
    assert parsed(answer({"encryptionType": kind, "psk": secret, "more": 1})) == secret


UNUSABLE: dict[str, object] = {
    "no JSON": b"%s{" % CANARY.encode(),
    "no UTF-8": CANARY.encode() + b"\xff\xfe",
    "a list": [2, CANARY],
    "no kind": {"psk": PSK},
    "another kind": {"encryptionType": 3, "psk": CANARY},
    "kind in pieces": {"encryptionType": [2], "psk": CANARY},
    "no secret": {"encryptionType": 2},
    "secret in pieces": {"encryptionType": 2, "psk": [CANARY]},
    "no base64": {"encryptionType": 2, "psk": f"{CANARY}!"},
    "base64 cut off": {"encryptionType": 2, "psk": CANARY},
    "two lines": {"encryptionType": 2, "psk": f"{PSK}\n"},
    "not ASCII": {"encryptionType": 2, "psk": f"{CANARY}\xe4"},
    "empty": {"encryptionType": 2, "psk": ""},
    "too long": {"encryptionType": 2, "psk": base64.b64encode(bytes(65)).decode()},
    "nothing": b"",
    "zeros": bytes(48),
    "deep": b"[" * 9000,
}


@pytest.mark.parametrize("plain", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_what_grants_no_secret_is_told_without_a_byte_of_it(plain: object) -> None:
    """Wrongly hidden, or of the wrong kind: a sentence, and nothing of what was decrypted."""
    with pytest.raises(TransportError, match=r"decrypted|no device secret") as caught:
        parsed(answer(plain))
    assert CANARY not in whole_story(caught.value)


def test_a_certificate_is_refused_with_what_to_do() -> None:
    """A product of the other kind is said; its key stays out of sight."""
    grant = {"encryptionType": 1, "clientCert": "-----BEGIN", "clientKey": CANARY}
    with pytest.raises(LinkError, match=r"grants a certificate.*authenticate by key") as caught:
        parsed(answer(grant))
    assert CANARY not in whole_story(caught.value)


@pytest.mark.parametrize(
    "payload",
    [None, "", 5, ["x"], "no base64!", "AAAA", base64.b64encode(bytes(17)).decode(), "\xe4" * 32],
)
def test_a_payload_that_cannot_be_decrypted_is_not(payload: object) -> None:
    """AES is not given what is no whole number of blocks."""
    changed = {} if payload is None else {"Payload": payload}
    given_answer, _ = answer(**{"Payload": None, **changed})
    with pytest.raises(TransportError, match="no payload that could be decrypted"):
        registration.parse(given_answer, WHO, NOW_S, never)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>Welcome to this hotel</html>", b"null", b"[]", b"{}", b'{"Response": 5}',
        b'{"Response": []}', b"\xff", b"[" * 16000, b"1" * 5000, b'{"code":0,"payload":"x"}',
    ],
)  # fmt: skip
def test_who_answers_something_else_may_be_somebody_else(body: bytes) -> None:
    """A portal, a proxy or a wrong URL: another try may reach the gateway."""
    with pytest.raises(TransportError, match="HTTP status 503 and no response"):
        registration.parse(Answer(503, body), WHO, NOW_S, never)


def test_a_grant_with_a_bad_status_is_none() -> None:
    """Only 200 grants."""
    with pytest.raises(TransportError, match=r"HTTP status 500$"):
        parsed(answer(status=500))


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        {"Code": 1021, "Message": "device has been activated"},
        {"Code": "1021", "Message": ""},
        {"Code": "FailedOperation", "Message": "ErrorCode:1021, timestamp of activation 1010"},
        1021,
        "1021",
    ],
)
def test_a_device_that_is_registered_already_says_how_it_gets_in(error: object) -> None:
    """1021: the console resets it, or shows the secret; asking soon again is of no use."""
    said = refused(error)
    assert isinstance(said, LinkError)
    assert "reset the device in the console" in str(said)
    assert "cloud.secret_file (code 1021)" in str(said)


@pytest.mark.parametrize(
    "error", [{"Code": 1010, "Message": "signature"}, {"Message": "code=1010;", "Code": None}]
)
def test_a_wrong_signature_says_what_to_compare(error: object) -> None:
    """1010: the product's id and secret, and whether registration is on."""
    said = refused(error, 401)
    assert isinstance(said, LinkError)
    assert "cloud.product_secret_file" in str(said)
    assert "(code 1010)" in str(said)


@pytest.mark.parametrize("code", ["InvalidParameter", 1010, 4000])
def test_a_wrong_clock_says_what_it_shows(code: object) -> None:
    """The time of the request is named, and the next try may come with a better one."""
    said = refused({"Code": code, "Message": "X-Tc-Timestamp error"}, 400)
    assert isinstance(said, TransportError)
    assert "2021-08-19 08:43:09 UTC" in str(said)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"Code": "InternalError", "Message": "try again"}, "says 'InternalError try again'"),
        ({"Code": 10211, "Message": "x" * 300}, "says '10211 xxx"),
        ({"Code": {"a": [1]}, "Message": True}, "says ''"),
        ([1021], "says ''"),
        ("\u540d\r\nX: \ud800", r"says '\\u540d\r\nX: \\ud800'"),
    ],
)
def test_another_refusal_is_passed_on_in_ascii(error: object, words: str) -> None:
    """The cloud's own words, cut short and without anything that a terminal would obey."""
    said = refused(error)
    assert isinstance(said, TransportError)
    assert words in str(said)
    assert len(str(said)) < 250
    assert str(said).isascii()
    assert str(said).isprintable()


# --- anything ------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
NAMES = st.sampled_from(["Error", "Payload", "Len", "RequestId", "Code", "Message"])


@given(
    status=st.integers(100, 599),
    body=st.binary(max_size=200)
    | st.builds(
        lambda members: json.dumps({"Response": members}).encode(),
        st.dictionaries(NAMES, JSON | st.just(base64.b64encode(HIDDEN).decode())) | JSON,
    ),
    plain=st.binary(max_size=64)
    | st.builds(
        lambda grant: json.dumps(grant).encode(),
        st.fixed_dictionaries({"encryptionType": JSON, "psk": JSON}),
    ),
)
def test_any_answer_is_a_secret_or_a_sentence(status: int, body: bytes, plain: bytes) -> None:
    """Never another error, and what is returned can sign."""
    said: Exception | None = None
    secret = ""
    try:
        secret = registration.parse(Answer(status, body), WHO, NOW_S, lambda *_: plain)
    except (LinkError, TransportError) as error:
        said = error
    assert (said is None) == (1 <= len(base64.b64decode(secret, validate=True)) <= 64)
    assert said is None or str(said).isascii()
