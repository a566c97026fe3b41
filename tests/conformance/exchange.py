# SPDX-License-Identifier: MIT
"""The same updates, offered by the same cloud in small to the vendor's SDK and to this device.

What each of them puts on the wire, as a tap has heard it. The SDK is taken from the registry once
and kept beside the other builds; it runs in a process of its own.
"""

import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sim.broker import broker, free_port
from sim.bucket import LIFETIME_S, Bucket
from sim.cloud import DEVICE, PRODUCT, Cloud, Message
from sim.tap import Packet, Tap

from board.emulator import cache
from conformance.desk import SLOW_BYTES_PER_S, Desk, Image

SDK = ("tencent-iot-device==1.0.0", "paho-mqtt==1.5.1")  # as the SDK wants it
SECRET = "AAECAwQFBgcICQoLDA0ODw=="
DRIVER = Path(__file__).with_name("vendor_device.py")
PART_PERCENT = 20
PACE_BYTES_PER_S = 2 * SLOW_BYTES_PER_S  # so that there is something to tell between 0 and 100

GOOD, DIGEST, EXPIRED, REMOVED, OTHER = (
    "a good update", "a wrong digest", "an expired URL", "a removed object",
    "another version on the way",
)  # fmt: skip
CASES = (GOOD, DIGEST, EXPIRED, REMOVED, OTHER)


@dataclass(frozen=True)
class Exchange:
    """What went over both wires: packets of MQTT, and the headers of each HTTP request."""

    packets: Sequence[Packet]
    requests: Sequence[Mapping[str, str]]


DEVICE_FILE = f"""\
{{"auth_mode": "KEY", "productId": "{PRODUCT}", "productSecret": "", "deviceName": "{DEVICE}",
 "key_deviceinfo": {{"deviceSecret": "{SECRET}"}}, "region": "",
 "cert_deviceinfo": {{"devCaFile": "", "devCertFile": "", "devPrivateKeyFile": ""}}}}
"""


def sdk() -> Path:
    """Return the folder with the SDK and its paho, fetched now or earlier."""

    def fetch(place: Path) -> None:
        words = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
        cache.run(sys.executable, *words, "--target", place, *SDK)

    return cache.cached("vendor-sdk", SDK, fetch)


Device = Callable[[Path, Image, str], Exchange]


def both(folder: Path, image: Image) -> tuple[dict[str, Exchange], dict[str, Exchange]]:
    """Return what the SDK and this device say in each case; they run side by side."""
    with ThreadPoolExecutor(2) as pool:
        theirs = pool.submit(_each, vendor, folder / "vendor", image)
        mine = pool.submit(_each, ours, folder / "ours", image)
        return theirs.result(), mine.result()


def _each(device: Device, folder: Path, image: Image) -> dict[str, Exchange]:
    found = {}
    for number, case in enumerate(CASES):
        place = folder / str(number)
        place.mkdir(parents=True)
        found[case] = device(place, image, case)
    return found


def make_context(folder: Path) -> ssl.SSLContext:
    """Return what the bucket speaks TLS with; whom to trust is ``ca.pem`` in *folder*."""
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-days", "2", "-subj", "/CN=bucket", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", folder / "bucket.key", "-out", folder / "ca.pem",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "bucket.key")
    return context


def vendor(folder: Path, image: Image, case: str) -> Exchange:
    """Return what the SDK says and hears when it is offered *image* in *case*."""
    port = free_port()
    (folder / "device.json").write_text(DEVICE_FILE)
    bucket = Bucket(context=make_context(folder))
    with broker(port=port), Cloud(port) as cloud, bucket, Tap(port) as tap:
        bucket.bytes_per_s = PACE_BYTES_PER_S
        bucket.lifetime_s = 0 if case == EXPIRED else LIFETIME_S
        firmware = {"2.0.0": image, "2.1.0": image.other(folder / "other")}
        for version, each in firmware.items():
            if case != REMOVED:
                bucket.put_object(version, each.path)

        def offer(version: str, md5sum: str = "") -> None:
            url = partial(bucket.url, version)
            cloud.offer(version, url, md5sum or firmware[version].md5, image.size_bytes)

        def replace(message: Message) -> None:
            if message.version == "2.0.0" and (message.percent or 0) >= PART_PERCENT:
                cloud.listener = None
                offer("2.1.0")

        cloud.listener = replace if case == OTHER else None
        offer("2.0.0", "0" * 32 if case == DIGEST else "")
        drive(folder, tap.port)
        return Exchange(list(tap.packets), list(bucket.asked))


def drive(folder: Path, port: int) -> None:
    """Run the SDK to its end, in *folder*, against the broker at *port*."""
    words = [sys.executable, str(DRIVER), str(folder / "device.json"), str(port), "1.0.0"]
    path = {"PYTHONPATH": str(sdk())}
    done = subprocess.run(words, env=path, cwd=folder, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()


def ours(folder: Path, image: Image, case: str) -> Exchange:
    """Return what this device says and hears when it is offered *image* in *case*."""
    secret = folder / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    login = {'auth = "none"': f'auth = "tencent"\nsecret_file = "{secret}"'}
    trust = f'ca_file = "{folder}/ca.pem"'
    context = make_context(folder)
    with Desk(folder, image, replaced=login, context=context, download=trust) as desk:
        desk.bucket.bytes_per_s = PACE_BYTES_PER_S
        desk.start()
        desk.cloud.wait_for_version("1.0.0")
        _PLOTS[case](desk)
        assert desk.agent.end() == 0
        return Exchange(list(desk.tap.packets), list(desk.bucket.asked))


def _good(desk: Desk) -> None:
    desk.offer()
    desk.reboot()
    desk.cloud.wait_for_version("2.0.0")


def _digest(desk: Desk) -> None:
    desk.offer(md5sum="0" * 32)
    _fail(desk)


def _expired(desk: Desk) -> None:
    desk.bucket.lifetime_s = 0
    desk.offer()
    desk.agent.wait_until(lambda: desk.bucket.refused > 0, "a refusal")
    desk.bucket.lifetime_s = 3600
    desk.reboot()
    desk.cloud.wait_for_version("2.0.0")


def _removed(desk: Desk) -> None:
    url = partial(desk.bucket.url, "removed")
    desk.cloud.offer("2.0.0", url, desk.image.md5, desk.image.size_bytes)
    _fail(desk)


def _other(desk: Desk) -> None:
    desk.offer()
    desk.cloud.wait_for(lambda m: (m.percent or 0) >= PART_PERCENT)
    desk.offer("2.1.0", image=desk.image.other(desk.board.folder / "other"))
    desk.reboot()
    desk.cloud.wait_for_version("2.1.0")


def _fail(desk: Desk) -> None:
    failure = desk.cloud.wait_for_state("fail")
    desk.cloud.wait_for_version("1.0.0", since=desk.cloud.messages.index(failure))


_PLOTS: dict[str, Callable[[Desk], None]] = {
    GOOD: _good, DIGEST: _digest, EXPIRED: _expired, REMOVED: _removed, OTHER: _other,
}  # fmt: skip
