# SPDX-License-Identifier: MIT
"""The gateway's URL: what is taken apart, and what is none."""

import pytest

from updater.core.errors import ConfigError
from updater.core.gateway import GATEWAY_URL, Gateway, parse_gateway

URLS = {
    GATEWAY_URL: ("ap-guangzhou.gateway.tencentdevices.com", 443, "/device/register", True),
    "https://europe.gateway.tencentdevices.com/device/register": (
        "europe.gateway.tencentdevices.com", 443, "/device/register", True,
    ),
    "http://127.0.0.1:8080/": ("127.0.0.1", 8080, "/", False),
    "http://h/x": ("h", 80, "/x", False),
    "https://h:80/x": ("h", 80, "/x", True),
    "https://h:65535/x": ("h", 65535, "/x", True),
}  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_taken_apart(url: str) -> None:
    """Scheme, host, port and path; the port is the scheme's if there is none."""
    assert parse_gateway(url) == Gateway(*URLS[url])


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://h/x", "h"), ("https://h:443/x", "h"), ("http://h:80/x", "h"),
        ("https://h:80/x", "h:80"), ("http://h:443/x", "h:443"),
    ],
)  # fmt: skip
def test_only_an_unusual_port_is_named(url: str, authority: str) -> None:
    """The Host header is what any client would send, as a server may compare it."""
    assert parse_gateway(url).authority == authority


@pytest.mark.parametrize(
    "url",
    [
        "", "h", "https://h", "https:///x", "ftp://h/x", "https://user@h/x", "https://h:/x",
        "https://h:0/x", "https://h:65536/x", "https://h:123456/x", "https://h/a b", "https://h/\n",
        "https://h/x\r\nX-Evil: 1", "https://[::1]/x", "https://.h/x", "https://-h/x",
        "https://h/" + "x" * 300, "https://ä/x",
    ],
)  # fmt: skip
def test_what_is_no_such_url_is_refused(url: str) -> None:
    """Nothing that could end up in a header or a name but is none of it."""
    with pytest.raises(ConfigError, match=r"is not like|does not exist"):
        parse_gateway(url)
