# SPDX-License-Identifier: MIT
"""A process with many devices in it: one thread, one poll(2), each device with a loop of its own.

A device is turned when one of its descriptors is ready or its deadline has come, exactly as the
agent's loop turns when it is alone in its process; it cannot tell that there are others. They share
what a process has once: the interpreter, the modules, one processor.

Orders come on standard input, a line each: ``build`` makes the devices, ``on N`` switches N more of
them on, ``skip S`` has all of them be S seconds later; at its end they are switched off. What
happens is told on standard output, a line each: monotonic seconds, the device's number, a word.
"""

import heapq
import json
import logging
import math
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from fleet.device import FleetDevice, settings

READY = "ready"
_NOBODY = -1


class Flock:
    """The devices of one process, and what each of them waits for."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._owner: dict[int, FleetDevice] = {}
        self._interests: dict[FleetDevice, dict[int, int]] = {}
        self._due_s: dict[FleetDevice, float] = {}
        self._queue: list[tuple[float, int, FleetDevice]] = []  # with what is no longer true
        self._ties = count()

    def watch(self, fileno: int) -> None:
        """Have ``turn`` end when *fileno*, which is no device's, is readable."""
        self._poll.register(fileno, select.POLLIN)

    def switch_on(self, device: FleetDevice) -> None:
        """Turn *device* from now on."""
        self._interests[device] = {}
        self._plan(device, time.monotonic())

    def skip(self, seconds: float) -> None:
        """Have *seconds* be over for every device, whatever it was waiting for."""
        for device in self._interests:
            device.time.advance(seconds)
            self._plan(device, time.monotonic())

    def switch_off(self) -> None:
        """End all of them in good order."""
        for device in self._interests:
            device.switch_off()

    def turn(self) -> list[int]:
        """Wait for the first thing to do, do all that is due; return what is no device's."""
        ready, strange = self._ready()
        due: dict[FleetDevice, dict[int, int]] = {device: {} for device in self._overdue()}
        for fileno, events in ready.items():
            due.setdefault(self._owner[fileno], {})[fileno] = events
        for device, found in due.items():
            self._turn(device, found)
        return strange

    def _ready(self) -> tuple[Mapping[int, int], list[int]]:
        timeout_ms = None
        if self._queue:
            timeout_ms = max(math.ceil((self._queue[0][0] - time.monotonic()) * 1000), 0)
        found = dict(self._poll.poll(timeout_ms))
        strange = [fileno for fileno in found if fileno not in self._owner]
        return {f: events for f, events in found.items() if f in self._owner}, strange

    def _overdue(self) -> Iterator[FleetDevice]:
        now_s = time.monotonic()
        while self._queue and self._queue[0][0] <= now_s:
            due_s, _tie, device = heapq.heappop(self._queue)
            if self._due_s[device] == due_s:
                self._due_s[device] = math.inf
                yield device

    def _turn(self, device: FleetDevice, events: Mapping[int, int]) -> None:
        wanted, wait_s = device.turn(events)
        had = self._interests[device]
        for fileno in had.keys() - wanted.keys():
            self._poll.unregister(fileno)
            del self._owner[fileno]
        for fileno in wanted:
            self._poll.register(fileno, wanted[fileno])
            self._owner[fileno] = device
        self._interests[device] = wanted
        self._plan(device, time.monotonic() + wait_s)

    def _plan(self, device: FleetDevice, due_s: float) -> None:
        if due_s != self._due_s.get(device):
            self._due_s[device] = due_s
            if due_s != math.inf:
                heapq.heappush(self._queue, (due_s, next(self._ties), device))


def tell(number: int, word: str) -> None:
    """Tell that *word* has happened to device *number*."""
    print(json.dumps([time.monotonic(), number, word]), flush=True)


def _made(facts: Mapping[str, Any]) -> Iterator[FleetDevice]:
    """Yield the devices that *facts* name."""
    for number in range(facts["first"], facts["first"] + facts["count"]):
        cloud = settings(number, Path(facts["folder"]), facts["port"], facts["ca_file"])
        yield FleetDevice(cloud, facts["pace"], partial(tell, number))


def main() -> None:
    """Do what standard input asks for, until it ends."""
    logging.disable(logging.WARNING)  # what a lost link says, a thousand times
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever gives the orders
    flock = Flock()
    devices: Iterator[FleetDevice] = iter(())
    orders = b""
    flock.watch(sys.stdin.fileno())
    tell(_NOBODY, READY)
    while True:
        if not flock.turn():
            continue
        raw = os.read(sys.stdin.fileno(), 1024)
        if not raw:
            break
        *lines, orders = (orders + raw).split(b"\n")
        for line in lines:
            word, *more = line.split()
            if word == b"build":
                devices = iter(list(_made(json.loads(sys.argv[1]))))
                tell(_NOBODY, READY)
            elif word == b"skip":
                flock.skip(float(more[0]))
                tell(_NOBODY, READY)
            else:
                for device in islice(devices, int(more[0])):
                    flock.switch_on(device)
    flock.switch_off()


if __name__ == "__main__":
    main()
