# SPDX-License-Identifier: MIT
"""TLS-PSK: the device secret is the key, where Python has it, and a sentence where it has not."""

import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from linkdriver import driver
from newerpython import device
from sim.broker import broker

from updater.core.cloudconfig import CloudConfig
from updater.core.credentials import Credentials
from updater.core.errors import ConfigError
from updater.core.link import Disconnected
from updater.edge import tls

SECRET, KEY = "AAECAwQFBgcICQoLDA0ODw==", bytes(range(16))
LOGIN = Credentials("PD", "PD;12010126;abcde;1", None, KEY)
SETTINGS = CloudConfig(host="h", product_id="P", device_name="D", auth="psk", secret_file="/s")
HAS_PSK = bool(getattr(ssl, "HAS_PSK", False))


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a mosquitto that knows one device by its key, and nobody by a password."""
    keys = tmp_path_factory.mktemp("psk") / "keys"
    keys.write_text(f"PD:{KEY.hex()}\n")
    with broker(
        f"psk_file {keys}\npsk_hint h\nuse_identity_as_username true\nallow_anonymous false"
    ) as number:
        yield number


def with_secret(folder: Path, port: int, name: str, secret: str) -> dict[str, Any]:
    """Return what happened to the device *name* that has *secret*."""
    file = folder / "secret"
    file.write_text(secret)
    file.chmod(0o600)
    return device(folder, port=port, device_name=name, auth="psk", secret_file=str(file))


def test_the_secret_is_the_key(tmp_path: Path, port: int) -> None:
    """Identity and key alone let the device in: no certificate, no password (PROTOCOL.md, 2.4)."""
    found = with_secret(tmp_path, port, "D", SECRET)
    assert found == {"acknowledged": True, "reasons": []}


@pytest.mark.parametrize(
    ("login", "words"),
    [
        (("D", "AAECAwQFBgcICQoLDA0OEA=="), "do not share one secret: check cloud.secret_file"),
        (("stranger", SECRET), "the device is unknown to the broker: check cloud.product_id"),
        (("D", "tops3cret!"), "the device secret is empty or not base64 text"),
    ],
)
def test_a_wrong_secret_is_told_from_an_unknown_device(
    tmp_path: Path, port: int, login: tuple[str, str], words: str
) -> None:
    """Each has its sentence, and none has the secret."""
    name, secret = login
    found = with_secret(tmp_path, port, name, secret)
    assert not found["acknowledged"]
    assert words in found["reasons"][0]
    assert secret not in str(found)


@pytest.mark.skipif(HAS_PSK, reason="this Python has TLS-PSK")
def test_an_older_python_says_what_it_lacks() -> None:
    """One sentence names the version that is needed, the one that runs, and the other ways."""
    version = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    with pytest.raises(ConfigError, match=r"needs Python 3\.13 or newer with TLS-PSK") as caught:
        tls.context(SETTINGS, LOGIN)
    assert version in str(caught.value)
    assert "use tencent or certificate" in str(caught.value)
    assert str(KEY) not in str(caught.value)


def test_the_context_is_wired_as_the_cloud_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS 1.2 alone, ciphers of PSK alone, identity and key whatever the hint; no certificates."""
    kept = SimpleNamespace()

    class Newer(ssl.SSLContext):
        """A context as Python 3.13 has it."""

        def set_psk_client_callback(self, callback: Any) -> None:
            kept.callback = callback

    newer = {**vars(ssl), "SSLContext": Newer, "HAS_PSK": True}
    monkeypatch.setattr(tls, "ssl", SimpleNamespace(**newer))
    made = tls.context(SETTINGS, LOGIN)
    assert kept.callback("any hint") == kept.callback(None) == ("PD", KEY)
    assert (made.minimum_version, made.maximum_version) == (ssl.TLSVersion.TLSv1_2,) * 2
    assert (made.check_hostname, made.verify_mode) == (False, ssl.CERT_NONE)
    names = [each["name"] for each in made.get_ciphers() if each["protocol"] != "TLSv1.3"]
    assert {"PSK-AES256-CBC-SHA", "PSK-AES128-CBC-SHA"} <= set(names)
    assert all("PSK" in name and "NULL" not in name for name in names)
    assert names[0].startswith("ECDHE-PSK")


def test_a_psk_without_tls_connects_to_nobody(port: int) -> None:
    """A plain client at the same port gets nothing, and learns what to check."""
    with driver(port) as link:
        assert "check cloud.port, cloud.allow_plaintext" in link.until(Disconnected).reason
