# SPDX-License-Identifier: MIT
"""Two benchmarks, both unless one is named: ``pipeline`` and ``fleet``.

``pipeline``: how long ``updater write`` takes, against MD5 alone, against what one types, against
two peers. Images of incompressible bytes lie in memory. nginx sends them over the loopback to
whoever asks, and they are written to a loop device. MD5 is one chain of dependent steps, so nobody
can be faster than one processor's MD5: that is the floor. The contenders take turns, each ratio is
taken within one round, and the figure is the median of the rounds. What others do on the machine
meanwhile is watched: a run that they disturb is taken again, up to a bound, and what remains is
told. It needs root, for the loop devices, and 10 GiB of memory.

``fleet``: a thousand devices on one broker, back after it was away; ten minutes, most of them spent
in waiting.

Run it by ``make bench``, or ``make bench PART=fleet``.
"""

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path

from bench import fleetpage, page
from bench.contenders import contenders
from bench.growth import growth
from bench.machine import Patience
from bench.rounds import rounds
from bench.slow import RATE_BYTES, slow
from bench.sparing import sparing
from bench.stage import MIB, loop_device, stage
from bench.thousand import thousand

_PAGES = Path(__file__).parents[2] / "docs" / "bench"
_TOOLS = ("losetup", "nginx", "curl", "swupdate", "rauc", "dbus-run-session", "filefrag")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="time updater write against others, and a fleet")
    parser.add_argument("parts", nargs="*", metavar="PART", help="pipeline, fleet; none: both")
    parser.add_argument("--size-mib", type=int, default=1024, metavar="N")
    parser.add_argument("--runs", type=int, default=5, metavar="N")
    parser.add_argument("--patience-s", type=float, default=300.0, metavar="S",
                        help="what waiting for a quiet machine may take in all")  # fmt: skip
    parser.add_argument("--devices", type=int, default=1000, metavar="N", help="a multiple of 20")
    parser.add_argument("--output", type=Path, default=_PAGES, help="folder of the figures' pages")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(_PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    if options.devices <= 0 or options.devices % 20:
        parser.error("--devices must be a multiple of 20")
    return options


def _measure(options: argparse.Namespace) -> page.Figures:
    patience = Patience(options.patience_s)
    with stage(RATE_BYTES) as shared:
        image = shared.image("image", options.size_mib * MIB)
        with loop_device(image.size) as device:
            everybody = contenders(shared, image, device)
            taken = rounds(everybody, image, device, options.runs, patience)
        for path in (image.path, shared.folder / "image.swu", shared.folder / "rauc"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return page.Figures(
            taken, growth(shared, patience), sparing(shared), slow(shared), options.size_mib
        )


def _pipeline(options: argparse.Namespace) -> str:
    """Measure the pipeline, write its page, and return what it says."""
    missing = [tool for tool in _TOOLS if not shutil.which(tool)]
    if os.geteuid() != 0 or missing:
        print(f"needs root, for the loop devices; missing: {missing}", file=sys.stderr)
        sys.exit(2)
    figures = _measure(options)
    page.insert(options.output / "pipeline.md", figures)
    return page.text(figures)


def _fleet(options: argparse.Namespace) -> str:
    """Measure the fleet, write its page, and return what it says."""
    figures = thousand(options.devices)
    fleetpage.insert(options.output / "fleet.md", figures)
    return fleetpage.text(figures)


_PARTS = {"pipeline": _pipeline, "fleet": _fleet}


def main() -> int:
    """Measure all, write the pages, and return 1 if a target was missed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # taken down as on Ctrl-C
    options = _arguments()
    is_missed = False
    for part in options.parts or _PARTS:
        text = _PARTS[part](options)
        print(text)
        is_missed |= "**no**" in text
    return int(is_missed)


if __name__ == "__main__":
    sys.exit(main())
