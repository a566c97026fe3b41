# SPDX-License-Identifier: MIT
"""The cloud's gateway in small: registers each device once, over HTTP or HTTPS.

It computes signatures by the protocol's text and hides secrets by the ``openssl`` command, so that
nothing of the device's own code judges itself. It can be told to answer anything, as slowly as the
test wants.
"""

import base64
import hashlib
import hmac
import http.server
import json
import secrets
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PRODUCT_SECRET = "qv9CkpNHbCBJqFpvLRe2tMnX"
PATH = "/device/register"
CLOCK_TOLERANCE_S = 300


@dataclass(frozen=True)
class Request:
    """What a device has sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Script = Callable[[Request], Iterable[bytes | float]]  # bytes to send, and seconds between them


class Gateway:
    """Listens on the loopback; a context manager."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_POST(self) -> None:
                gateway._serve(self)

            def do_GET(self) -> None:
                gateway._serve(self)  # a device that follows a redirect would be seen

            def log_message(self, *_args: object) -> None:
                pass

        self.requests: list[Request] = []
        self.granted: dict[str, str] = {}  # secrets by device name
        self.ahead_s = 0.0  # how far its clock is ahead of the device's
        self.script: Script | None = None
        self.arrived = threading.Event()
        self._scheme = "http" if tls is None else "https"
        self._over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), Handler)
        if tls is not None:  # hands are shaken in the connection's own thread
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """What a device is configured with."""
        return f"{self._scheme}://127.0.0.1:{self.port}{PATH}"

    def reset(self) -> None:
        """Do what the console's button does: every device may register again."""
        self.granted.clear()

    def _serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length", 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Request(handler.command, handler.path, headers, handler.rfile.read(length))
        self.requests.append(request)
        self.arrived.set()
        handler.close_connection = True
        try:
            for part in (self.script or self.honest)(request):
                if self._over.is_set():
                    return
                if isinstance(part, bytes):
                    handler.wfile.write(part)
                else:
                    self._over.wait(part)
        except OSError:
            pass  # the device has gone: the test meant it to

    # --- what the cloud would say ----------------------------------------------------------------

    def honest(self, request: Request) -> Iterable[bytes | float]:
        """Answer as the protocol says."""
        problem = self._problem(request)
        if problem is not None:
            return [answer({"Error": problem, "RequestId": "5f1d"})]
        name = json.loads(request.body)["DeviceName"]
        self.granted[name] = base64.b64encode(secrets.token_bytes(16)).decode()
        grant = {"encryptionType": 2, "psk": self.granted[name]}
        return [answer(hidden(json.dumps(grant, separators=(",", ":")).encode()))]

    def _problem(self, request: Request) -> dict[str, object] | None:
        headers = request.headers
        stamp, algorithm = headers["x-tc-timestamp"], headers["x-tc-algorithm"]
        if abs(int(stamp) - time.time() - self.ahead_s) > CLOCK_TOLERANCE_S:
            return {"Code": "InvalidParameter", "Message": "X-Tc-Timestamp error"}
        if headers["x-tc-signature"] != signature(request, algorithm, "127.0.0.1"):
            return {"Code": 1010, "Message": "signature check failed"}
        if json.loads(request.body)["DeviceName"] in self.granted:
            return {"Code": 1021, "Message": "device has been activated"}
        return None


def signature(request: Request, algorithm: str, host: str) -> str:
    """Return what X-TC-Signature has to be, written down from the protocol."""
    make = {"hmacsha256": hashlib.sha256, "hmacsha1": hashlib.sha1}[algorithm]
    headers = request.headers
    text = (
        f"{request.method}\n{host}\n{request.path}\n\n{algorithm}\n{headers['x-tc-timestamp']}\n"
        f"{headers['x-tc-nonce']}\n{make(request.body).hexdigest()}"
    )
    mac = hmac.new(PRODUCT_SECRET.encode(), text.encode(), make)
    return base64.b64encode(mac.digest()).decode()


def hidden(plain: bytes, product_secret: str = PRODUCT_SECRET) -> dict[str, object]:
    """Return the response that grants *plain*."""
    padded = plain + bytes(-len(plain) % 16)
    key, iv = product_secret[:16].encode().hex(), (b"0" * 16).hex()
    command = ["openssl", "enc", "-aes-128-cbc", "-nopad", "-K", key, "-iv", iv]
    raw = subprocess.run(command, input=padded, capture_output=True, check=True).stdout
    return {"Len": len(plain), "Payload": base64.b64encode(raw).decode(), "RequestId": "5f1d"}


def answer(response: object, status: str = "200 OK") -> bytes:
    """Return a whole answer with *response*."""
    body = json.dumps({"Response": response}).encode()
    return http_answer(body, status)


def http_answer(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """Return an answer with *body*."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them

    def handle_error(self, *_args: object) -> None:
        """Say nothing of a device that does not trust us."""


# --- certificates --------------------------------------------------------------------------------

_AUTHORITY = """
[ca]
default_ca = here
[here]
database = index
rand_serial = yes
new_certs_dir = .
default_md = sha256
unique_subject = no
copy_extensions = copy
policy = any
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
"""


def certificate(folder: Path, address: str, begin: str, end: str) -> ssl.SSLContext:
    """Make ``ca.pem``, which signs itself for *address* between two dates (YYYYMMDD), in *folder*.

    Returns:
        A server's context for it.
    """
    folder.mkdir(exist_ok=True)
    (folder / "authority").write_text(_AUTHORITY)
    (folder / "index").write_text("")
    commands = (
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem "
        f"-out request -subj /CN=gateway -addext subjectAltName=IP:{address} -config authority",
        "openssl ca -batch -notext -selfsign -config authority -in request -keyfile key.pem "
        f"-out ca.pem -startdate {begin}000000Z -enddate {end}000000Z",
    )
    for command in commands:
        subprocess.run(command.split(), check=True, capture_output=True, cwd=folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context
