# SPDX-License-Identifier: MIT
"""WebSocket, as far as MQTT needs it: the upgrade's words, and frames (RFC 6455, MQTT 3.1.1 § 6).

Payload is passed on as it comes, so that no length that a broker announces is ever held in memory.
"""

import base64
import hashlib

from updater.core.errors import LinkError

BINARY, CLOSE, PING, PONG = 0x2, 0x8, 0x9, 0xA
MAX_HEAD_BYTES = 8192
HEAD_END = b"\r\n\r\n"

_CONTINUATION = 0x0
_FIN, _MASKED = 0x80, 0x80
_TWO_BYTES, _EIGHT_BYTES = 126, 127  # of length that follow
_MAX_CONTROL_BYTES = 125
_SWITCHING = "101"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def upgrade(host: str, port: int, path: str, key: str, *, is_tls: bool) -> bytes:
    """Return the request that asks for MQTT over WebSocket.

    Args:
        host: As in the configuration.
        port: Left out of the request where it is the scheme's own.
        path: Begins with a slash.
        key: 16 random bytes in base64, new for each connection.
        is_tls: True for wss.
    """
    name = f"[{host}]" if ":" in host else host
    place = name if port == (443 if is_tls else 80) else f"{name}:{port}"
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {place}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: mqtt",
    )
    return "\r\n".join(lines).encode("utf-8") + HEAD_END


def check_upgrade(head: bytes, key: str) -> None:
    """Judge the server's answer, from its status line to the empty line.

    Raises:
        LinkError: It is no WebSocket for MQTT.
    """
    status, *lines = head.decode("latin-1").split("\r\n")
    words = status.split(" ")
    if not words[0].startswith("HTTP/1.") or not words[1:] or not words[1].isdecimal():
        raise LinkError("what answers there speaks no HTTP: check cloud.port and cloud.transport")
    if words[1] != _SWITCHING:
        raise LinkError(
            f"the server answers {words[1][:9]} to the WebSocket upgrade: check cloud.host and "
            "cloud.websocket_path, and that no proxy or log-in page stands between"
        )
    fields = {
        name.strip().lower(): text.strip() for name, _, text in (x.partition(":") for x in lines)
    }
    accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest())
    if fields.get("sec-websocket-accept") != accept.decode():
        raise LinkError("the server's answer to the WebSocket upgrade is not for our request")
    if fields.get("sec-websocket-protocol", "mqtt") != "mqtt":
        raise LinkError(
            "the server speaks WebSocket there, and no MQTT: check cloud.websocket_path"
        )


def frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """Return one whole frame of a client; *mask* is four random bytes."""
    size = len(payload)
    if size < _TWO_BYTES:
        length = bytes([_MASKED | size])
    elif size < 1 << 16:
        length = bytes([_MASKED | _TWO_BYTES]) + size.to_bytes(2, "big")
    else:
        length = bytes([_MASKED | _EIGHT_BYTES]) + size.to_bytes(8, "big")
    stream = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
    return bytes([_FIN | opcode]) + length + mask + masked.to_bytes(size, "big")


class Decoder:
    """Takes a server's bytes apart, however they are cut.

    Attributes:
        is_closed: The server has said goodbye; nothing follows.
        ping: Payload of the latest ping that nobody has answered, or None.
    """

    def __init__(self) -> None:
        self.is_closed = False
        self.ping: bytes | None = None
        self._raw = bytearray()
        self._left_bytes = 0  # of the data frame that is being passed on

    def feed(self, raw: bytes) -> bytes:
        """Return the payload that *raw* brings.

        Raises:
            LinkError: This is no server's WebSocket.
        """
        self._raw += raw
        payload = bytearray()
        while self._raw and not self.is_closed:
            if self._left_bytes:
                part = self._take(min(self._left_bytes, len(self._raw)))
                self._left_bytes -= len(part)
                payload += part
            elif not self._next():
                break
        return bytes(payload)

    def _next(self) -> bool:
        """Take the next frame's head, and a whole control frame; False if there is too little."""
        raw = self._raw
        if len(raw) < 2:  # noqa: PLR2004 - opcode and length
            return False
        opcode, size = raw[0] & ~_FIN, raw[1]
        is_control = opcode in {CLOSE, PING, PONG}
        is_whole = bool(raw[0] & _FIN) and size <= _MAX_CONTROL_BYTES
        if size & _MASKED or not (opcode in {_CONTINUATION, BINARY} or (is_control and is_whole)):
            raise LinkError("what the broker sends is no MQTT over WebSocket")
        more = {_TWO_BYTES: 2, _EIGHT_BYTES: 8}.get(size, 0)
        if len(raw) < 2 + more + (size if is_control else 0):
            return False
        head = self._take(2 + more)
        if is_control:
            self._control(opcode, bytes(self._take(size)))
        else:
            self._left_bytes = int.from_bytes(head[2:], "big") if more else size
        return True

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.ping = payload
        self.is_closed = opcode == CLOSE

    def _take(self, size: int) -> bytearray:
        part = self._raw[:size]
        del self._raw[:size]
        return part
