# SPDX-License-Identifier: MIT
"""Runs the demo. Exit status 0 only if every step of the story was observed."""

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

from sim.cloud import Message
from sim.rig import Rig

from demo.screen import Screen
from demo.story import PACE_BYTES_PER_S, STORY, Witness, images


def main() -> int:
    """Set the desk up, tell the story, show what was seen."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the run into FILE, SVG")
    options = parser.parse_args()
    firmwares = images()
    screen = Screen(STORY)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        rig = Rig(Path(folder), firmwares["0.1"], listener=screen.printed)
        with rig, screen:
            rig.web.bytes_per_s = PACE_BYTES_PER_S
            rig.cloud.listener = lambda message: _show_progress(screen, message)
            _tell(screen, Witness(rig, firmwares))
    screen.report(options.picture)
    took_s = time.monotonic() - began_s
    if screen.is_complete:
        print(f"All of it was observed, in {took_s:.0f} s. Nothing of it runs any more.")
        return 0
    print("Not all of it was observed; what is missing is marked above.", file=sys.stderr)
    return 1


def _tell(screen: Screen, witness: Witness) -> None:
    """Observe one step after the other, up to the first that does not come."""
    for chapter in STORY:
        for step in chapter.steps:
            try:
                screen.seen(step, step.observe(witness))
            except (AssertionError, TimeoutError, RuntimeError) as error:
                screen.seen(step, str(error), is_missed=True)
                return


def _show_progress(screen: Screen, message: Message) -> None:
    """Move the bar."""
    if message.percent is not None:
        screen.downloaded(message.percent)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
