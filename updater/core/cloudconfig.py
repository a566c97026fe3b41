# SPDX-License-Identifier: MIT
"""The rows of ``[cloud]``: which broker, who we are there, and how a device gets its secret.

Read by ``core.config`` like any other table.
"""

from dataclasses import dataclass

from updater.core.errors import ConfigError
from updater.core.gateway import GATEWAY_URL, parse_gateway
from updater.core.rows import row as _row

_PORTS = {
    ("tcp", False): 8883,
    ("tcp", True): 1883,
    ("websocket", False): 443,
    ("websocket", True): 80,
}


_LEVEL = (  # of a topic: a wildcard would hear others, or say nothing
    r"[^\x00-\x20\x7f-\xa0/+#]{1,64}",
    "be 1 to 64 characters, and no blank, '/', '+' or '#' among them",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudConfig:
    """``[cloud]``: which broker, and who we are there."""

    host: str = _row(
        "host name of the MQTT broker; Tencent's: the product id and "
        "`.iotcloud.tencentdevices.com` (China), `.us-east.iotcloud.tencentdevices.com`, "
        "`.europe.iothub.tencentdevices.com`, `.ap-bangkok.iothub.tencentdevices.com`, or by "
        "websocket `.ap-guangzhou.iothub.tencentdevices.com`"
    )
    port: int = _row(
        "its TCP port; 0: 8883, without TLS 1883, by websocket 443, without TLS 80",
        0,
        low=0,
        high=65535,
    )
    transport: str = _row(
        "what carries MQTT; websocket (wss, or ws without TLS) passes where only the web does",
        "tcp",
        choices=("tcp", "websocket"),
    )
    websocket_path: str = _row(
        "path of the broker's websocket", "/mqtt",
        form=(r"/[!-~]*", "begin with a slash and be printable ASCII without spaces"),
    )  # fmt: skip
    product_id: str = _row("product id, from the cloud's console", form=_LEVEL)
    device_name: str = _row("device name within the product", form=_LEVEL)
    auth: str = _row(
        "how to log in: `tencent` signs with the device secret, `certificate` shows a device "
        "certificate and `psk` keys TLS with the device secret (Python 3.13), both with the "
        "cloud's form of user name and no password; `password` and `none` are for other brokers",
        "tencent",
        choices=("tencent", "certificate", "psk", "password", "none"),
    )
    secret_file: str = _row(
        "file with the device secret (auth = tencent or psk); a name without a slash is that of a "
        "systemd credential, here and in the other files of secrets",
        "",
    )
    product_secret_file: str = _row(
        "file with the product secret: a device without its own registers and gets it", ""
    )
    registration_url: str = _row("where it registers; regions have their own host", GATEWAY_URL)
    registration_ca_file: str = _row("PEM bundle for that instead of the system's CAs", "")
    username: str = _row("user name (auth = password)", "")
    password_file: str = _row("file with the password (auth = password)", "")
    client_cert_file: str = _row(
        "PEM with the device certificate and its chain, for any auth but psk", ""
    )
    client_key_file: str = _row("PEM with its key; empty: it is in the same file", "")
    hmac: str = _row("digest of the signature", "sha256", choices=("sha256", "sha1"))
    sdkappid: str = _row("application id in the user name", "12010126")
    signature_lifetime_s: int = _row(
        "seconds until a user name expires; 0: never, for devices whose clock cannot be trusted",
        3600,
        low=0,
        high=31536000,
    )
    keep_alive_s: int = _row(
        "MQTT keep-alive, seconds; a dead link is noticed within one and a half of it; "
        "Tencent: 60 to 850",
        120,
        low=5,
        high=900,
    )
    allow_plaintext: bool = _row("connect without TLS", default=False)
    ca_file: str = _row("PEM bundle instead of the system's CAs", "")
    fw_type: str = _row(
        "kind of firmware that this device takes, such as mcu; empty: any", "",
        form=(r"[!-~]{0,64}", "be at most 64 characters of printable ASCII without spaces"),
    )  # fmt: skip

    @property
    def broker_port(self) -> int:
        """The port in use."""
        return self.port or _PORTS[self.transport, self.allow_plaintext]


def check_cloud(cloud: CloudConfig, path: str) -> None:
    """Refuse what each row allows and no broker could mean; *path* is for messages.

    Raises:
        ConfigError: It says what excludes what.
    """
    has_certificate = bool(cloud.client_cert_file)
    if cloud.client_key_file and not has_certificate:
        raise ConfigError(f"{path}: cloud.client_key_file needs cloud.client_cert_file")
    if cloud.auth == "certificate" and not has_certificate:
        raise ConfigError(f"{path}: cloud.auth = certificate needs cloud.client_cert_file")
    if cloud.auth == "psk" and has_certificate:
        raise ConfigError(f"{path}: cloud.auth = psk and cloud.client_cert_file exclude each other")
    if cloud.allow_plaintext and (has_certificate or cloud.auth == "psk"):
        raise ConfigError(
            f"{path}: cloud.client_cert_file and cloud.auth = psk need TLS: "
            "cloud.allow_plaintext must be false"
        )
    if cloud.product_secret_file:
        _check_registration(cloud, path)


def _check_registration(cloud: CloudConfig, path: str) -> None:
    """Refuse a registration that would end in nothing, or in plaintext that nobody has allowed."""
    if cloud.auth not in {"tencent", "psk"} or "/" not in cloud.secret_file:
        raise ConfigError(
            f"{path}: cloud.product_secret_file needs an auth by device secret, and the path of a "
            "file, cloud.secret_file, where that is put"
        )
    try:
        gateway = parse_gateway(cloud.registration_url)
    except ConfigError as error:
        raise ConfigError(f"{path}: cloud.registration_url: {error}") from error
    if not gateway.is_tls and not cloud.allow_plaintext:
        raise ConfigError(
            f"{path}: cloud.registration_url must be https, or needs cloud.allow_plaintext"
        )
