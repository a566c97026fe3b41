# SPDX-License-Identifier: MIT
"""The local interface's wire form: Varlink, that is JSON objects that end in a zero byte.

Bytes in, values out. The interface below is the one truth about methods; ``varlinkctl`` and the
command line both speak it. Source: varlink.org, "Interface Definition" and "Method Call".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from updater.core.errors import ControlError

MAX_MESSAGE_BYTES = 1 << 16
INTERFACE = "org.updater.Control"
SERVICE = "org.varlink.service"

DESCRIPTION = """\
# Talks to the running updater. What changes the device needs root or the agent's own user.
interface org.updater.Control

# One line of history, newest first.
type Entry (time_s: float, session: string, version: string, state: string, text: string)

# What runs, what each slot holds, what is going on.
method GetStatus() -> (status: object)

# The newest entries; limit is from 1 to 500.
method GetHistory(limit: ?int) -> (entries: []Entry)

# Which offers have failed here, the latest last.
method GetOffers() -> (offers: []object)

# Forget all that: what is offered next is tried at once. Needs root, or the agent's own user.
method ClearOffers() -> (cleared: int)

# Every variable of the boot environment.
method GetEnvironment() -> (variables: [string]string)

# Install an image from a URL or a file; the answer comes when it has begun.
method Install(source: string, version: string, md5: string, size_bytes: int) -> (session: string)

# End the install that goes on, before it boots, and drop an offer that is kept for later. An
# install that hooks are still asked about has no session. A reason is at most 100 characters of
# ASCII. Needs root, or the agent's own user.
method Cancel(reason: ?string) -> (session: ?string, version: ?string, kept: ?string)
# Activate what is installed, whatever the time is; the answer says what it still waits for.
method Activate() -> (waiting: ?object)

# Keep the booted slot, which is on trial.
method MarkGood() -> (bootname: string)

# Return to the other slot, then reboot: ends a trial, or needs a verified other slot.
method Rollback() -> (bootname: string)

# The request failed: class of the error, one sentence, and the exit code of a command line.
error Failed (kind: string, message: string, exit_code: int)
"""


@dataclass(frozen=True, slots=True)
class Request:
    """A method call as it came.

    Attributes:
        method: Fully qualified.
        parameters: Unchecked.
        is_oneway: The caller wants no answer.
    """

    method: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    is_oneway: bool = False


def encode(message: Mapping[str, object]) -> bytes:
    """Return *message* as it goes over the wire."""
    return json.dumps(message).encode("ascii") + b"\0"


def split(buffer: bytes) -> tuple[list[bytes], bytes]:
    """Return the complete messages in *buffer*, and what is left of it.

    Raises:
        ControlError: A message is longer than ``MAX_MESSAGE_BYTES``.
    """
    *messages, rest = buffer.split(b"\0")
    if max(len(part) for part in (*messages, rest)) > MAX_MESSAGE_BYTES:
        raise ControlError(f"message longer than {MAX_MESSAGE_BYTES} bytes")
    return messages, rest


def parse_object(message: bytes) -> Mapping[str, object]:
    """Return the JSON object that *message* is.

    Raises:
        ControlError: It is none.
    """
    try:
        value = json.loads(message.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ControlError("message is no JSON") from None
    if not isinstance(value, dict):
        raise ControlError("message is no JSON object")
    return value


def parse_request(message: bytes) -> Request:
    """Return the method call that *message* is.

    Raises:
        ControlError: It is none.
    """
    value = parse_object(message)
    method, parameters = value.get("method"), value.get("parameters", {})
    if not isinstance(method, str) or not isinstance(parameters, dict):
        raise ControlError("message is no method call")
    return Request(method, parameters, is_oneway=value.get("oneway") is True)


def reply(parameters: Mapping[str, object]) -> bytes:
    """Return an answer."""
    return encode({"parameters": parameters})


def failure(kind: str, message: str, exit_code: int) -> bytes:
    """Return the answer that a request failed."""
    parameters = {"kind": kind, "message": message, "exit_code": exit_code}
    return encode({"error": f"{INTERFACE}.Failed", "parameters": parameters})


def service_reply(request: Request, version: str) -> bytes | None:
    """Answer what is asked about the interface itself; None if *request* is for it.

    Args:
        request: Any.
        version: Of this program.
    """
    interface, _, method = request.method.rpartition(".")
    if interface == INTERFACE:
        return None
    if interface != SERVICE:
        return _service_error("InterfaceNotFound", {"interface": interface})
    match method:
        case "GetInfo":
            return reply(
                {
                    "vendor": "updater",
                    "product": "updater",
                    "version": version,
                    "url": "",
                    "interfaces": [SERVICE, INTERFACE],
                }
            )
        case "GetInterfaceDescription":
            if request.parameters.get("interface") == INTERFACE:
                return reply({"description": DESCRIPTION})
            return _service_error("InvalidParameter", {"parameter": "interface"})
        case _:
            return _service_error("MethodNotFound", {"method": request.method})


def _service_error(name: str, parameters: Mapping[str, object]) -> bytes:
    return encode({"error": f"{SERVICE}.{name}", "parameters": parameters})
