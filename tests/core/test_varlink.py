# SPDX-License-Identifier: MIT
"""The local interface's wire form: whole messages out of any pieces, and nothing hostile in."""

import contextlib
import itertools
import json
import re

import pytest
import varlink
from hypothesis import given
from hypothesis import strategies as st

from updater import desk
from updater.core.errors import ControlError
from updater.core.varlink import (
    DESCRIPTION,
    INTERFACE,
    MAX_MESSAGE_BYTES,
    Request,
    encode,
    failure,
    parse_object,
    parse_request,
    reply,
    service_reply,
    split,
)

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_objects = st.dictionaries(st.text(), _values, max_size=4)


@given(st.lists(_objects, max_size=4), st.lists(st.integers(0, 200), max_size=6), st.binary())
def test_messages_survive_the_wire_in_any_pieces(
    sent: list[dict[str, object]], cuts: list[int], tail: bytes
) -> None:
    """However a stream is cut, each message arrives once and whole, and the rest is kept."""
    stream = b"".join(encode(message) for message in sent) + tail.replace(b"\0", b"")
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    got, rest = [], b""
    for start, end in itertools.pairwise(edges):
        messages, rest = split(rest + stream[start:end])
        got += messages
    assert [parse_object(message) for message in got] == sent
    assert rest == tail.replace(b"\0", b"")


def test_a_message_has_a_longest_length() -> None:
    """A caller cannot fill the memory, with one message or with one that never ends."""
    longest = b"x" * MAX_MESSAGE_BYTES
    assert split(longest + b"\0" + longest) == ([longest], longest)
    for buffer in (longest + b"x", longest + b"x\0", b"{}\0" + longest + b"x"):
        with pytest.raises(ControlError, match="longer than 65536 bytes"):
            split(buffer)


@pytest.mark.parametrize(
    "hostile",
    [
        b"", b"{", b"[]", b"null", b"3", b'"x"', b"\xff", b"[" * 10_000, b'{"a":' * 10_000,
        b'{"method": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_object_is_an_error(hostile: bytes) -> None:
    """No JSON, no object, nested ten thousand deep: one sentence, never another error."""
    with pytest.raises(ControlError):
        parse_object(hostile)


@pytest.mark.parametrize(
    "message",
    [
        {}, {"method": 3}, {"method": None, "parameters": {}}, {"method": "a.B", "parameters": []},
        {"method": "a.B", "parameters": "x"},
    ],
)  # fmt: skip
def test_what_is_no_call_is_an_error(message: dict[str, object]) -> None:
    """A method is a name, parameters are an object."""
    with pytest.raises(ControlError, match="no method call"):
        parse_request(json.dumps(message).encode())


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ({"method": "a.B"}, Request("a.B", {})),
        ({"method": "a.B", "parameters": {"x": [1]}}, Request("a.B", {"x": [1]})),
        ({"method": "a.B", "oneway": True}, Request("a.B", {}, is_oneway=True)),
        ({"method": "a.B", "oneway": 1, "more": True, "new": {}}, Request("a.B", {})),
    ],
)
def test_a_call_is_read(message: dict[str, object], wanted: Request) -> None:
    """Unknown members are ignored; parameters come unchecked."""
    assert parse_request(json.dumps(message).encode()) == wanted


@given(st.binary(max_size=300) | _objects.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_messages_never_surprise(message: bytes) -> None:
    """Whatever comes is a call or a ControlError."""
    with contextlib.suppress(ControlError):
        assert isinstance(parse_request(message).method, str)


def answer(method: str, **parameters: object) -> dict[str, object]:
    """Return what the service interface answers, decoded."""
    raw = service_reply(Request(method, parameters), "1.2.3")
    assert raw is not None
    assert raw.endswith(b"}\0")
    return dict(parse_object(raw[:-1]))


def test_the_service_tells_what_it_is() -> None:
    """As org.varlink.service has it."""
    assert answer("org.varlink.service.GetInfo") == {
        "parameters": {
            "vendor": "updater", "product": "updater", "version": "1.2.3", "url": "",
            "interfaces": ["org.varlink.service", INTERFACE],
        }
    }  # fmt: skip
    described = answer("org.varlink.service.GetInterfaceDescription", interface=INTERFACE)
    assert described == {"parameters": {"description": DESCRIPTION}}


@pytest.mark.parametrize(
    ("method", "parameters", "error", "wanted"),
    [
        ("org.varlink.service.GetInterfaceDescription", {}, "InvalidParameter",
         {"parameter": "interface"}),
        ("org.varlink.service.GetInterfaceDescription", {"interface": "org.varlink.service"},
         "InvalidParameter", {"parameter": "interface"}),
        ("org.varlink.service.Reboot", {}, "MethodNotFound",
         {"method": "org.varlink.service.Reboot"}),
        ("org.example.Other.GetStatus", {}, "InterfaceNotFound",
         {"interface": "org.example.Other"}),
        ("GetStatus", {}, "InterfaceNotFound", {"interface": ""}),
    ],
)  # fmt: skip
def test_what_there_is_not_is_said_in_varlink_s_words(
    method: str, parameters: dict[str, object], error: str, wanted: dict[str, object]
) -> None:
    """The errors of org.varlink.service, with their parameters."""
    said = answer(method, **parameters)
    assert said == {"error": f"org.varlink.service.{error}", "parameters": wanted}


def test_a_call_of_our_interface_is_left_to_the_agent() -> None:
    """The service answers for itself alone."""
    assert service_reply(Request(f"{INTERFACE}.GetStatus"), "1") is None


def test_the_reference_implementation_understands_the_description() -> None:
    """What varlinkctl shows is well-formed, and names exactly the methods that are served."""
    interface = varlink.Interface(DESCRIPTION)
    assert interface.name == INTERFACE
    described = re.findall(r"^method (\w+)", DESCRIPTION, re.MULTILINE)
    assert [interface.get_method(name).name for name in described] == described
    assert set(described) == set(desk._METHODS)


def test_answers_are_those_that_the_description_promises() -> None:
    """A reply has parameters; a failure is the declared error with exactly its members."""
    assert reply({"bootname": "B"}) == b'{"parameters": {"bootname": "B"}}\0'
    raw = failure("BusyError", "another session", 5)
    assert parse_object(raw[:-1]) == {
        "error": f"{INTERFACE}.Failed",
        "parameters": {"kind": "BusyError", "message": "another session", "exit_code": 5},
    }
    assert "error Failed (kind: string, message: string, exit_code: int)" in DESCRIPTION


def test_what_is_no_utf_8_survives_as_ascii() -> None:
    """An environment's odd bytes come as surrogates and must not end the connection."""
    raw = encode({"value": "\udcff\u2260"})
    assert raw == b'{"value": "\\udcff\\u2260"}\0'
    assert parse_object(raw[:-1]) == {"value": "\udcff\u2260"}
