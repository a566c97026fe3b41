# SPDX-License-Identifier: MIT
"""Where a device registers: the URL of the cloud's gateway, taken apart."""

import re
from dataclasses import dataclass

from updater.core.errors import ConfigError

_URL = re.compile(r"(https?)://([A-Za-z0-9][A-Za-z0-9.-]{0,252})(?::([0-9]{1,5}))?(/[!-~]{0,255})")
GATEWAY_URL = "https://ap-guangzhou.gateway.tencentdevices.com/device/register"
_PORTS = {"https": 443, "http": 80}
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of the URL; *host* is what is signed, without the port."""

    host: str
    port: int
    path: str
    is_tls: bool

    @property
    def authority(self) -> str:
        """What the Host header says: the port only if it is not the usual one."""
        usual = _PORTS["https" if self.is_tls else "http"]
        return self.host if self.port == usual else f"{self.host}:{self.port}"


def parse_gateway(url: str) -> Gateway:
    """Return the parts of *url*.

    Raises:
        ConfigError: It is no such URL: scheme, host name and path are needed, a port is allowed.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise ConfigError(f"{url!r} is not like https://host/path")
    scheme, host, port, path = found.groups()
    number = int(port or _PORTS[scheme])
    if not 0 < number <= _LAST_PORT:
        raise ConfigError(f"{url!r} has a port that does not exist")
    return Gateway(host, number, path, scheme == "https")
