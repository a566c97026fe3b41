# SPDX-License-Identifier: MIT
"""How a device gets in: what the broker's listener asks for, and what the device shows.

Whatever it is, the device may write one topic and read one, and the broker's list says so by the
user that it has found.
"""

from dataclasses import dataclass

from sim.cloud import DEVICE, PRODUCT

_PATTERN = f"pattern write $ota/report/{PRODUCT}/%u\npattern read $ota/update/{PRODUCT}/%u\n"
_USER = "user {name}\n" + _PATTERN.replace("pattern", "topic").replace("%u", DEVICE)
_CERTIFIED = """
certfile {certificates}/broker.pem
keyfile {certificates}/broker.key
"""
_WITH_PASSWORD = f"""
auth = "password"
username = "{DEVICE}"
password_file = "{{folder}}/password"
ca_file = "{{certificates}}/ca.pem"
"""


@dataclass(frozen=True)
class Door:
    """One way in; ``{certificates}`` and ``{folder}`` stand for the folders of either.

    Attributes:
        listener: Lines of the broker's listener.
        cloud: Lines of the device's table ``[cloud]``.
        access: The broker's access list.
        needs_newer_python: The device's own must be 3.13 or newer.
    """

    listener: str
    cloud: str
    access: str = _PATTERN
    needs_newer_python: bool = False


PASSWORD = Door(_CERTIFIED, _WITH_PASSWORD)
WEBSOCKET = Door(f"protocol websockets{_CERTIFIED}", f'{_WITH_PASSWORD}transport = "websocket"\n')
CERTIFICATE = Door(
    f"{_CERTIFIED}cafile {{certificates}}/ca.pem\n"
    "require_certificate true\nuse_identity_as_username true\n",
    'auth = "certificate"\nca_file = "{certificates}/ca.pem"\n'
    'client_cert_file = "{certificates}/device-both.pem"\n',
    _USER.format(name="PD"),  # the certificate's
)
PSK = Door(
    "psk_file {certificates}/keys\npsk_hint any\nuse_identity_as_username true\n",
    'auth = "psk"\nsecret_file = "{folder}/secret"\n',
    _USER.format(name=PRODUCT + DEVICE),
    needs_newer_python=True,
)
