# SPDX-License-Identifier: MIT
"""A device made of the vendor's Python SDK, driven in the order of its own OTA sample.

Runs as a program of its own, with the SDK alone on its path: it needs an older paho than ours.
Connects, subscribes, reports its version, fetches what it is offered, reports how that went, and
ends. Three things of the SDK are not as it has them: the broker's host, which it derives from the
product id, and port 1883 are set to the test's; and its TLS context, which is made for a server and
is refused to clients from Python 3.10 on, is the one that it amounted to before.

    vendor_device.py DEVICE_FILE BROKER_PORT VERSION
"""

import ssl
import sys
import time
import types
from collections.abc import Callable
from typing import Any

PATIENCE_S = 20.0
CHUNK_BYTES = 5000  # as in the sample


def stand_in_for_aes() -> None:
    """Let the SDK import the cipher of its registration, whose library no longer builds."""
    cipher: Any = types.ModuleType("Crypto.Cipher")
    cipher.AES = types.SimpleNamespace(block_size=16)
    sys.modules["Crypto"] = types.ModuleType("Crypto")
    sys.modules["Crypto.Cipher"] = cipher


def unverified_tls(*_arguments: object) -> ssl.SSLContext:
    """Return a client's context that trusts everyone, which is what the SDK's does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Wait until *is_so*, or raise."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline_s:
            raise SystemExit(f"not within {PATIENCE_S:g} s: {what}")
        time.sleep(0.01)


class VendorDevice:
    """The SDK's hub, and what it has called back."""

    def __init__(self, device_file: str, port: int) -> None:
        from hub.hub import QcloudHub  # noqa: PLC0415 - not before the stand-in
        from hub.utils.codec import Codec  # noqa: PLC0415 - the same

        Codec.Ssl.create_content = unverified_tls
        self.hub = QcloudHub(device_file=device_file, tls=False).hub
        protocol = self.hub._QcloudHubProvider__protocol
        protocol._AsyncConnClient__host = "127.0.0.1"
        protocol._AsyncConnClient__mqtt_tcp_port = port
        self.who = self.hub.getProductID(), self.hub.getDeviceName()
        self.answers: list[Any] = []
        self.acknowledged: set[int] = set()
        self.is_subscribed = False
        self.hub.registerMqttCallback(
            self.ignore, self.ignore, self.ignore, self.published, self.subscribed, self.ignore
        )

    def ignore(self, *_arguments: object) -> None:
        """Take a callback that nothing depends on."""

    def published(self, mid: int, _userdata: object) -> None:
        """Take note of a PUBACK."""
        self.acknowledged.add(mid)

    def subscribed(self, *_arguments: object) -> None:
        """Take note of a SUBACK."""
        self.is_subscribed = True

    def answered(self, _topic: str, _qos: int, payload: dict[str, Any], _userdata: object) -> None:
        """Take note of a report_version_rsp."""
        self.answers.append(payload)

    def run(self, version: str) -> None:
        """Bring one update in, as far as it goes."""
        self.hub.connect()
        wait_until(self.hub.isMqttConnected, "a connection")
        self.hub.otaInit(*self.who, self.answered)
        wait_until(lambda: self.is_subscribed, "a subscription")
        self.hub.otaReportVersion(*self.who, version)
        wait_until(lambda: bool(self.answers), "an answer")
        wait_until(lambda: bool(self.hub.otaIsFetching(*self.who)), "an offer")
        report = self.hub.otaReportUpgradeSuccess if self.fetch() else self.hub.otaReportUpgradeFail
        _status, mid = report(*self.who, None)
        wait_until(lambda: mid in self.acknowledged, "a PUBACK")

    def fetch(self) -> bool:
        """Fetch what is offered, and tell whether it is whole."""
        command = self.command
        size_bytes, _text = self.hub.otaIoctlNumber(*self.who, command("IOT_OTAG_FILE_SIZE"))
        if self.hub.otaDownloadStart(*self.who, 0, size_bytes):
            return False
        while not self.hub.otaIsFetchFinished(*self.who):
            _chunk, length = self.hub.otaFetchYield(*self.who, CHUNK_BYTES)
            if length < 0:
                return False
        verdict, _text = self.hub.otaIoctlNumber(*self.who, command("IOT_OTAG_CHECK_FIRMWARE"))
        return bool(verdict == 0)

    @staticmethod
    def command(name: str) -> Any:
        """Return one of the SDK's own words."""
        from hub.services.ota.ota import Ota  # noqa: PLC0415 - not before the stand-in

        return Ota.OtaCmdType[name]


if __name__ == "__main__":
    stand_in_for_aes()
    VendorDevice(sys.argv[1], int(sys.argv[2])).run(sys.argv[3])
