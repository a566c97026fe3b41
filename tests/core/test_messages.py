# SPDX-License-Identifier: MIT
"""The wire: exact bytes out, and nothing hostile in."""

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.core import messages
from updater.core.errors import OfferError, ResultCode
from updater.core.messages import VersionResponse, parse_downlink
from updater.core.model import Firmware, Offer

GOOD: dict[str, object] = {
    "file_size": 175436,
    "md5sum": "AD4615B8" + "0" * 24,
    "type": "update_firmware",
    "url": "https://ota.example.com/f?sign=q-sign-time%3D1%3B2&x=1",
    "version": "0.0.2",
}
OFFER = Offer(Firmware("0.2", "0" * 32, 4096), "https://h/f?secret")
TASK = Offer(OFFER.firmware, OFFER.url, task_id=123456, fw_type="mcu")


def payload(**changes: object) -> bytes:
    return json.dumps({k: v for k, v in {**GOOD, **changes}.items() if v is not ...}).encode()


def test_an_offer_is_read() -> None:
    """Digest in lower case, unknown keys ignored, task echoed in its type."""
    crowd = [{"a": [number]} for number in range(300)]
    assert parse_downlink(payload(user_defined=json.dumps(crowd))) is not None
    assert parse_downlink(payload(user_defined=crowd)) is not None
    numbered = parse_downlink(payload(task_id=123456))
    assert isinstance(numbered, Offer)
    assert (numbered.task_id, type(numbered.task_id)) == (123456, int)
    wanted = Offer(Firmware("0.0.2", "ad4615b8" + "0" * 24, 175436), str(GOOD["url"]))
    assert parse_downlink(payload(user_defined={"a": [1]})) == wanted
    offer = parse_downlink(payload(task_id="7", fw_type="mcu", file_size="175436"))
    assert isinstance(offer, Offer)
    assert (offer.task_id, offer.fw_type, offer.firmware) == ("7", "mcu", wanted.firmware)


@pytest.mark.parametrize(
    "changes",
    [
        {"file_size": value}
        for value in (0, -1, True, 1.0, 1e3, "", "-1", "1.0", "0", "9" * 20, 1 << 63, None, ...)
    ]
    + [{"md5sum": value} for value in ("", "0" * 31, "0" * 33, "g" * 32, 5, None, ...)]
    + [{"version": value} for value in ("", "x" * 33, "a b", "../x", "a/b", "\u0664", 2, None, ...)]
    + [
        {"url": value}
        for value in ("", "ftp://h/x", "/etc/passwd", "https://", "https://h/ x", "https://h/\n",
                      "https://h/" + "x" * 2100, "file:///x", 7, None, ...)
    ]
    + [{"task_id": value} for value in (True, 1.5, "", "x" * 65, [1], 1 << 70)]
    + [{"fw_type": value} for value in (1, "", "x" * 65, "a\n")],
)  # fmt: skip
def test_an_offer_out_of_its_limits_is_refused(changes: dict[str, object]) -> None:
    """Each field has its form; the sentence names the field and never the URL."""
    with pytest.raises(OfferError) as caught:
        parse_downlink(payload(**changes))
    assert next(iter(changes)) in str(caught.value)
    assert "example.com" not in str(caught.value)


@pytest.mark.parametrize(
    "hostile",
    [
        b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b'{"type": NaN}', b"[" * 10_000,
        b'{"a":' * 3000, b'{"type": "update_firmware", "file_size": ' + b"9" * 5000 + b"}",
        b'"' + b"x" * 20_000 + b'"', b'{"type": Infinity}', b'{"type": "update_firmware"}\0',
        b'{"a": ' + b"[" * 10_000 + b"]" * 6_000 + b"}", b'{"type": "\x00"}',
        b'\xef\xbb\xbf{"type": "x"}', b'{"type": "\xed\xa0\x80"}',
        b'{"type": "x", "type": "update_firmware"}', b'{"type": "x", "a": 1, "a": 1}',
        b'{"type": "x", "a": -Infinity}', b'{"type": "x", "a": 01}', b"{'type': 'x'}",
        b'{"type": "x", "a": ' + b"1" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_message_is_one_sentence(hostile: bytes) -> None:
    """No JSON, too large, nested ten thousand deep: an error of ours, never another one."""
    with pytest.raises(OfferError):
        parse_downlink(hostile)


def test_the_largest_payload_is_taken() -> None:
    """16 KiB are one; a byte more is none."""
    message = payload().ljust(16384)
    assert parse_downlink(message) == parse_downlink(payload())
    with pytest.raises(OfferError, match="16385 bytes, at most 16384"):
        parse_downlink(message + b" ")


def test_a_key_twice_is_refused_where_it_could_be_meant() -> None:
    """What parser would take which? In what nobody reads, it is nobody's business."""
    twice = payload()[:-1] + b', "md5sum": "%s"}' % (b"0" * 32)
    with pytest.raises(OfferError, match="twice"):
        parse_downlink(twice)
    inner = payload()[:-1] + b', "user_defined": {"a": 1, "a": 2}}'
    assert parse_downlink(inner) == parse_downlink(payload())


def test_a_lone_surrogate_is_no_obstacle_and_no_value() -> None:
    """JSON can spell what no text holds: ignored where nobody reads it, refused where one does."""
    spelt = json.dumps("\ud800").encode()
    inner = payload()[:-1] + b', "user_defined": ' + spelt + b"}"
    assert parse_downlink(inner) == parse_downlink(payload())
    for name in ("version", "url", "task_id", "fw_type", "md5sum", "file_size"):
        with pytest.raises(OfferError, match=name):
            parse_downlink(payload(**{name: "\ud800"}))


@pytest.mark.parametrize(
    "version", ["", " ", "x" * 33, "1.0 beta", "1/0", "\u0661", "1\n", "\ud800"]
)
def test_what_is_no_version_never_becomes_a_report(version: str) -> None:
    """The cloud would not take it, and a quote in it would be worse."""
    assert not messages.is_version(version)
    with pytest.raises(OfferError, match="version"):
        messages.report_version(version)


@pytest.mark.parametrize("size", [1, "1", (1 << 63) - 1, str((1 << 63) - 1)])
@pytest.mark.parametrize("task", [1 - (1 << 63), (1 << 63) - 1])
def test_the_limits_themselves_are_taken(size: object, task: int) -> None:
    """A size of one byte, and what 63 bits hold."""
    offer = parse_downlink(payload(file_size=size, task_id=task))
    assert isinstance(offer, Offer)
    assert (offer.firmware.size_bytes, offer.task_id) == (int(str(size)), task)


@pytest.mark.parametrize(
    ("code", "wanted"),
    [(0, 0), ("0", 0), (-3, -3), ("1021", 1021), ((1 << 63) - 1, (1 << 63) - 1)],
)
def test_a_version_response_has_a_code(code: object, wanted: int) -> None:
    """Number or string."""
    text = json.dumps({"type": "report_version_rsp", "result_code": code, "version": "0.1"})
    assert parse_downlink(text.encode()) == VersionResponse(wanted)


@pytest.mark.parametrize("code", ["x", None, True, 0.0, "", 1 << 70])
def test_a_version_response_without_a_code_is_refused(code: object) -> None:
    """Nothing is guessed."""
    with pytest.raises(OfferError):
        parse_downlink(json.dumps({"type": "report_version_rsp", "result_code": code}).encode())


@pytest.mark.parametrize("kind", ["updating", None, 3, "report_version"])
def test_unknown_types_are_ignored(kind: object) -> None:
    """The protocol may grow."""
    assert parse_downlink(json.dumps({"type": kind}).encode()) is None


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def outcome(message: bytes) -> object:
    """Return what *message* says, or the error that it is."""
    try:
        return parse_downlink(message)
    except OfferError as error:
        return error


_hostile = st.one_of(
    _json,
    st.integers(min_value=1 << 62),
    st.sampled_from(["\ud800", "\0", "https://h/f\0", "0.1\n", "9" * 5000, -0.0, 1e400]),
)
_almost = st.fixed_dictionaries(
    {name: st.just(value) | _hostile for name, value in GOOD.items() if name != "type"},
    optional={"task_id": _hostile, "fw_type": _hostile, "x": _hostile},
)


@given(
    st.binary(max_size=300)
    | _almost.map(lambda fields: json.dumps({**fields, "type": "update_firmware"}).encode())
    | _hostile.map(
        lambda code: json.dumps({"type": "report_version_rsp", "result_code": code}).encode()
    )
)
def test_arbitrary_messages_never_surprise(message: bytes) -> None:
    """Whatever comes is a value within its limits, or an OfferError that shows no URL."""
    value = outcome(message)
    if isinstance(value, OfferError):
        assert str(value).isascii()
        assert "://" not in str(value)
    if isinstance(value, Offer):
        assert messages.check_version(value.firmware.version) == value.firmware.version
        assert messages.check_md5(value.firmware.md5) == value.firmware.md5
        assert 0 < value.firmware.size_bytes < 1 << 63
        assert value.url.isascii()
        assert value.url.isprintable()
        report = messages.fail(value, ResultCode.LOCAL, "x" * 500)
        assert len(report) < 1024
        assert json.loads(report)["report"]["version"] == value.firmware.version


_versions = st.from_regex(r"[A-Za-z0-9._-]{1,32}", fullmatch=True)
_words = st.from_regex(r"[!-~]{1,64}", fullmatch=True)
_offers = st.builds(
    Offer,
    st.builds(
        Firmware,
        _versions,
        st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
        st.integers(1, (1 << 63) - 1),
    ),
    st.from_regex(r"https?://[!-~]{1,200}", fullmatch=True),
    st.none() | _words | st.just(0) | st.integers(1 - (1 << 63), (1 << 63) - 1),
    st.none() | _words,
)


@given(_offers, st.booleans(), st.randoms())
def test_every_offer_comes_through(offer: Offer, is_text: bool, random: Random) -> None:
    """Whatever its values and the order of its keys: what was meant is what is read."""
    size = offer.firmware.size_bytes
    fields: dict[str, object] = {
        "type": "update_firmware",
        "version": offer.firmware.version,
        "md5sum": offer.firmware.md5,
        "file_size": str(size) if is_text else size,
        "url": offer.url,
        "task_id": offer.task_id,
        "fw_type": offer.fw_type,
        "what comes next": {"a": [1.5]},
    }
    names = list(fields)
    random.shuffle(names)
    sent = {name: fields[name] for name in names if fields[name] is not None}
    assert parse_downlink(json.dumps(sent).encode()) == offer


@given(_offers, st.integers(0, 100), st.text(max_size=300), st.sampled_from(ResultCode))
def test_every_report_names_its_offer_and_nothing_else(
    offer: Offer, percent: int, reason: str, code: ResultCode
) -> None:
    """Strings inside, the task as it came, ASCII throughout, and never the URL."""
    built = {
        "downloading": messages.downloading(offer, percent),
        "burning": messages.burning(offer),
        "done": messages.done(offer),
        "fail": messages.fail(offer, code, reason),
    }
    for state, raw in built.items():
        assert raw.isascii()
        assert len(raw) < 1024
        body = json.loads(raw)
        progress = body["report"].pop("progress")
        echoed = {"task_id": offer.task_id, "fw_type": offer.fw_type}
        assert body == {
            "type": "report_progress",
            "report": {
                "version": offer.firmware.version,
                **{name: value for name, value in echoed.items() if value is not None},
            },
        }
        assert progress.pop("state") == state
        assert progress.pop("percent", str(percent)) == str(percent)
        assert progress.pop("result_code") == (str(int(code)) if state == "fail" else "0")
        assert len(progress.pop("result_msg")) <= (128 if state == "fail" else 0)
        assert progress == {}


@given(_json, st.binary(max_size=64))
def test_arbitrary_json_is_nothing_or_an_error(value: object, tail: bytes) -> None:
    """By itself, as a message's field, and with rubbish behind it."""
    plain = json.dumps(value).encode()
    assert isinstance(outcome(plain), OfferError) or isinstance(value, dict)
    assert outcome(b'{"type": "x", "y": ' + plain + b"}") is None or b"N" in plain or b"I" in plain
    assert not isinstance(outcome(plain + tail), Offer)


@given(st.integers(0, 16_000), st.sampled_from([b"[", b'{"a":', b'[{"a":']))
def test_any_depth_is_a_value_or_an_offer_error(depth: int, opening: bytes) -> None:
    """Up to what a payload can hold, in a key that nobody asks for; what is sane is ignored."""
    nested = opening * (depth // len(opening))
    closing = nested[::-1].translate(bytes.maketrans(b"[{", b"]}"), b'"a:')
    assert isinstance(outcome(nested), OfferError)
    value = outcome(b'{"type": "x", "y": ' + nested + b"1" + closing + b"}")
    assert value is None or (depth > 200 and isinstance(value, OfferError))


def test_a_reason_is_short() -> None:
    """At most 128 characters reach the cloud."""
    report = json.loads(messages.fail(OFFER, ResultCode.LOCAL, "x" * 500))
    assert len(report["report"]["progress"]["result_msg"]) == 128
