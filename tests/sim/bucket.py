# SPDX-License-Identifier: MIT
"""The cloud's object store: an HTTP server whose URLs are signed, and expire.

A URL carries ``sign=…q-sign-time=start;end…`` in UNIX seconds. Outside of that time, or with
another signature, the answer is 403; for an object that is not there it is 404.
"""

import hashlib
import http.server
import re
import time
from pathlib import Path
from urllib.parse import quote, unquote

from sim.http_server import HttpServer

LIFETIME_S = 86400  # of a URL, as in every one that was ever seen
_SECRET = b"of the store alone"


class Bucket(HttpServer):
    """Serves what was put into it to whoever has a URL that is still good."""

    lifetime_s: float = LIFETIME_S
    refused = 0  # requests with a URL that is not good

    def url(self, name: str) -> str:
        """Return a URL for *name* that is good from now on, for ``lifetime_s``."""
        begin_s = int(time.time())
        span = f"{begin_s};{int(begin_s + self.lifetime_s)}"
        words = {
            "q-sign-algorithm": "sha1",
            "q-ak": "AKIDtest",
            "q-sign-time": span,
            "q-key-time": span,
            "q-header-list": "",
            "q-url-param-list": "",
            "q-signature": _signature(name, span),
        }
        text = "&".join(f"{key}={value}" for key, value in words.items())
        scheme = "http" if self.context is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}/{name}?sign={quote(text, safe='')}"

    def put_object(self, name: str, path: Path) -> None:
        """Hold the file at *path* as *name*."""
        self.put({name: path})

    def remove(self, name: str) -> None:
        """Hold *name* no longer."""
        del self.files[name]

    def _serve(self, request: http.server.BaseHTTPRequestHandler) -> None:
        name, _, query = request.path.partition("?")
        if is_good(name.lstrip("/"), query, time.time()):
            super()._serve(request)
        else:
            self.refused += 1
            request.send_error(403)


def is_good(name: str, query: str, now_s: float) -> bool:
    """Tell whether *query* opens *name* at *now_s*."""
    sign = re.fullmatch(r"sign=([^&]*)", query)
    text = unquote(sign[1]) if sign else ""
    found = re.search(r"(?:^|&)q-sign-time=(\d+);(\d+)(?:&|$)", text)
    if found is None or not int(found[1]) <= now_s < int(found[2]):
        return False
    return text.endswith(f"&q-signature={_signature(name, f'{found[1]};{found[2]}')}")


def _signature(name: str, span: str) -> str:
    return hashlib.sha256(_SECRET + f"{name} {span}".encode()).hexdigest()[:40]
