# SPDX-License-Identifier: MIT
"""A device as a program, for a Python that is not the tests' own: connects, reports, and tells.

    python device.py SETTINGS       the keys of [cloud] as JSON; secrets are in files

Prints one line of JSON: whether the report was acknowledged, or the reasons why there is no link.
"""

import json
import sys
from contextlib import closing

from linkdriver import Clock, Driver

from updater.core.cloudconfig import CloudConfig
from updater.core.link import Acknowledged, Connected, Disconnected
from updater.edge.mqtt import MqttLink
from updater.edge.secret import CredentialSource


def main(text: str) -> None:
    """Connect, report, and tell."""
    settings = CloudConfig(**json.loads(text))
    clock = Clock()
    with closing(MqttLink(settings, CredentialSource(settings), clock)) as link:
        it = Driver(link, clock)
        while not it.seen:
            it.step(0.5)
        is_acknowledged = False
        if it.seen == [Connected()]:
            token = link.publish(b"a report", 1)
            is_acknowledged = it.until(Acknowledged) == Acknowledged(token)
        reasons = [each.reason for each in it.seen if isinstance(each, Disconnected)]
    sys.stdout.write(json.dumps({"acknowledged": is_acknowledged, "reasons": reasons}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
