# SPDX-License-Identifier: MIT
"""A program for a Python that has TLS-PSK: logs in with each secret given, and prints what came.

    python pskdevice.py PORT DEVICE_NAME SECRET_FILE TRANSPORT

The first line has the events as JSON; the exit status is 0 also where it was refused.
"""

import json
import sys
from contextlib import closing

from linkdriver import Clock, Driver

from updater.core.config import CloudConfig
from updater.core.link import Acknowledged, Connected, Disconnected
from updater.edge.mqtt import MqttLink
from updater.edge.secret import CredentialSource


def main(port: str, device_name: str, secret_file: str, transport: str) -> None:
    """Connect, report, and tell."""
    settings = CloudConfig(
        host="127.0.0.1", port=int(port), product_id="P", device_name=device_name, auth="psk",
        secret_file=secret_file, transport=transport,
    )  # fmt: skip
    clock = Clock()
    with closing(MqttLink(settings, CredentialSource(settings), clock)) as link:
        it = Driver(link, clock)
        while not it.seen:
            it.step(0.5)
        said: list[object] = []
        if it.seen == [Connected()]:
            token = link.publish(b"a report", 1)
            said = [it.until(Acknowledged) == Acknowledged(token)]
        reasons = [each.reason for each in it.seen if isinstance(each, Disconnected)]
    sys.stdout.write(json.dumps({"said": said, "reasons": reasons}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
