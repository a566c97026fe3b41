# SPDX-License-Identifier: MIT
"""How long the native pipeline takes, against the time that MD5 alone takes of the same bytes.

An image of incompressible bytes lies in memory. A server in a process of its own sends it over the
loopback by sendfile; the pipeline receives, hashes and writes it past the page cache to a loop
device. What it is measured against is `openssl md5` of that image: MD5 is one chain of dependent
steps, so nobody can be faster than one processor's MD5. The contenders take turns, each ratio is
taken within one round, and the figure is the median of the rounds.

Run it by ``make bench``; it needs root, for the loop device.
"""

import argparse
import contextlib
import functools
import hashlib
import json
import os
import platform
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from updater.core.ports import InstallRequest, Phase
from updater.edge.pipeline import NativePipeline

SELF = (sys.executable, "-m", "bench.bench_pipeline")
PAGE = Path(__file__).parents[2] / "docs" / "bench" / "pipeline.md"
MEMORY = "/dev/shm"  # noqa: S108 - folders of random names are made there
MIB = 1 << 20
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
QUIET_S = 0.3  # without others' work for so long before each run
PATIENCE_S = 60.0
NOISE = 0.05  # of one processor, used by others: a run with more is taken again
ATTEMPTS = 8
KERNEL_THREAD = 0x00200000  # PF_KTHREAD
RSS_LIMIT_MIB = 28


@dataclass(frozen=True)
class Run:
    """One contender, once."""

    wall_s: float
    busy_s: float  # of all processors, whoever used them
    own_s: float = 0.0  # of the process that ran the pipeline
    rss_anon_mib: float = 0.0


@dataclass(frozen=True)
class Stage:
    """What all contenders share."""

    image: Path
    url: str
    device: str
    size: int
    md5: str


@dataclass(frozen=True)
class Contender:
    """One row of the table; a limit is a ratio to MD5 alone."""

    name: str
    run: Callable[[Stage], Run]
    limit: float | None = None


def busy_s() -> float:
    """Return the seconds that the processors have worked since the start."""
    user, nice, system, _, _, irq, soft, steal = map(int, _cpu_line()[1:9])
    return (user + nice + system + irq + soft + steal) / TICKS_PER_S


def _cpu_line() -> list[str]:
    return Path("/proc/stat").read_text().splitlines()[0].split()


def others_s() -> float:
    """Return the seconds that programs outside of this session have worked."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended; its time is its parent's now
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) != os.getsid(0) and not int(fields[6]) & KERNEL_THREAD:
                ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_PER_S


def is_quiet(before_s: float, began_s: float) -> bool:
    """Tell whether others have left the processors alone since *began_s*."""
    return others_s() - before_s <= NOISE * (time.monotonic() - began_s)


def wait_until_quiet() -> None:
    """Wait until nobody else works, but not for ever."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        before_s, began_s = others_s(), time.monotonic()
        time.sleep(QUIET_S)
        if is_quiet(before_s, began_s):
            return


def undisturbed(contender: "Contender", shared: "Stage") -> tuple[Run, bool]:
    """Run *contender*, again if others worked meanwhile; False if they always did."""
    for _ in range(ATTEMPTS):
        wait_until_quiet()
        before_s, began_s = others_s(), time.monotonic()
        run = contender.run(shared)
        if is_quiet(before_s, began_s):
            return run, True
    return run, False


def timed(command: list[str], expected: str) -> Run:
    """Run *command*, whose output must hold *expected*."""
    before_s, began_s = busy_s(), time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    run = Run(time.monotonic() - began_s, busy_s() - before_s)
    assert expected in done.stdout, done.stdout + done.stderr
    return run


# --- the contenders ------------------------------------------------------------------------------


def md5_alone(stage: Stage) -> Run:
    return timed(["openssl", "md5", str(stage.image)], stage.md5)


def shell_pipe(stage: Stage) -> Run:
    """Run what one would write by hand; the FIFO is what ``>()`` is, and can be waited for."""
    fifo = stage.image.with_name("fifo")
    script = f"""
        md5sum <{fifo} &
        curl -s {stage.url} | tee {fifo} |
            dd of={stage.device} bs=1M iflag=fullblock oflag=direct conv=fsync status=none
        wait
    """
    os.mkfifo(fifo)
    try:
        return timed(["bash", "-ec", script], stage.md5)
    finally:
        fifo.unlink()


def pipeline(stage: Stage, *, read_back: bool) -> Run:
    """Run the pipeline in a process of its own, as a device does."""
    orders = {"url": stage.url, "device": stage.device, "size": stage.size, "md5": stage.md5}
    words = [*SELF, "--install", json.dumps(orders | {"read_back": read_back})]
    before_s = busy_s()
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return Run(busy_s=busy_s() - before_s, **json.loads(done.stdout))


def rss_anon_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def install(orders: dict[str, object]) -> None:
    """Be the process of ``pipeline``: install once and print the figures."""
    request = InstallRequest(
        source=str(orders["url"]),
        device=str(orders["device"]),
        size_bytes=int(str(orders["size"])),
        md5=str(orders["md5"]),
        read_back=bool(orders["read_back"]),
        allow_plaintext=True,
    )
    peak_mib, before = 0.0, resource.getrusage(resource.RUSAGE_SELF)
    began_s = time.monotonic()
    with contextlib.closing(NativePipeline().open_install(request)) as running:
        while running.step(0.1).phase is not Phase.DONE:
            peak_mib = max(peak_mib, rss_anon_mib())
    wall_s = time.monotonic() - began_s
    after = resource.getrusage(resource.RUSAGE_SELF)
    own_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    print(json.dumps({"wall_s": wall_s, "own_s": own_s, "rss_anon_mib": peak_mib}))


CONTENDERS = (
    Contender("`openssl md5`, the floor", md5_alone),
    Contender("pipeline, read-back off", functools.partial(pipeline, read_back=False), 1.15),
    Contender("pipeline, read-back on", functools.partial(pipeline, read_back=True), 1.35),
    Contender("`curl | tee >(md5sum) | dd oflag=direct`", shell_pipe),
)


# --- the stage -----------------------------------------------------------------------------------


def serve(path: str) -> None:
    """Be the server: answer each connection with the file, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener, Path(path).open("rb") as file:
        print(listener.getsockname()[1], flush=True)
        size = os.fstat(file.fileno()).st_size
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(ConnectionError):
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                sent = 0
                while sent < size:
                    sent += os.sendfile(connection.fileno(), file.fileno(), sent, size - sent)
                connection.recv(1)  # until the other side has it all


@contextlib.contextmanager
def server(image: Path) -> Iterator[str]:
    """Serve *image* and give its URL."""
    words = [*SELF, "--serve", str(image)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/image"
        finally:
            process.terminate()


@contextlib.contextmanager
def loop_device(backing: Path, size: int) -> Iterator[str]:
    """Give a loop device of *size* bytes whose backing file has all its blocks."""
    with backing.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    command = ["losetup", "-f", "--show", str(backing)]
    path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield path
    finally:
        subprocess.run(["losetup", "-d", path], check=True)


@contextlib.contextmanager
def stage(size: int, memory: str, medium: str) -> Iterator[Stage]:
    """Set up image, server and device, and take them down again."""
    with contextlib.ExitStack() as stack:
        places = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix="bench-")))
            for folder in (memory, medium)
        ]
        image, digest = places[0] / "image", hashlib.md5(usedforsecurity=False)
        with image.open("wb") as file:
            for _ in range(size // MIB):
                digest.update(chunk := os.urandom(MIB))
                file.write(chunk)
        url = stack.enter_context(server(image))
        device = stack.enter_context(loop_device(places[1] / "slot", size))
        yield Stage(image, url, device, size, digest.hexdigest())


# --- the report ----------------------------------------------------------------------------------


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def file_system(folder: str) -> str:
    command = ["stat", "--file-system", "--format", "%T", folder]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def row(contender: Contender, rounds: list[dict[str, Run]], size: int) -> str:
    floor = CONTENDERS[0].name
    runs = [taken[contender.name] for taken in rounds]
    walls = [run.wall_s for run in runs]
    ratio = statistics.median(t[contender.name].wall_s / t[floor].wall_s for t in rounds)
    limit = "" if contender.limit is None else f"≤ {contender.limit:.2f}"
    verdict = "" if contender.limit is None else ("yes" if ratio <= contender.limit else "**no**")
    median_s = statistics.median(walls)
    rss = max(run.rss_anon_mib for run in runs)
    cells = [
        contender.name.replace("|", "\\|"),
        f"{median_s:.2f}", f"{min(walls):.2f} to {max(walls):.2f}",
        f"{size / MIB / median_s:.0f}", f"{ratio:.2f}", limit, verdict,
        f"{statistics.median(run.busy_s for run in runs):.2f}",
        f"{statistics.median(run.own_s for run in runs):.2f}" if rss else "",
        f"{rss:.1f}" if rss else "",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def report(rounds: list[dict[str, Run]], options: argparse.Namespace, noisy: int) -> str:
    """Return the page: how it was measured, and the table."""
    size = options.size_mib * MIB
    peak = max(run.rss_anon_mib for taken in rounds for run in taken.values())
    head = [
        "| | median s | range s | MiB/s | ratio | target | met | busy s | own s | RssAnon MiB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    rows = [row(contender, rounds, size) for contender in CONTENDERS]
    noise = f"; others disturbed {noisy} runs" if noisy else ""
    return "\n".join(
        [
            f"{options.size_mib} MiB of random bytes, {options.runs} rounds, contenders in turn.",
            "",
            f"- machine: {processor()}, {os.cpu_count()} processors, Linux {platform.release()}",
            f"- image: in memory (tmpfs); medium: loop device on {file_system(options.medium)}",
            f"- command: `make bench`{noise}",
            "",
            *head,
            *rows,
            "",
            "“ratio” is the median of the ratios to `openssl md5` in the same round; “busy” is",
            "the time of all processors together, server and kernel included; “own” is that of the",
            f"pipeline's process. Its private memory peaked at {peak:.1f} MiB (target: ≤"
            f" {RSS_LIMIT_MIB}), Python included.",
            "",
        ]
    )


BEGIN, END = "<!-- figures: written by the benchmark -->\n", "<!-- end of figures -->\n"


def insert(page: Path, figures: str) -> None:
    """Put *figures* between the page's two marks, and leave the rest alone."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{figures}\n{END}{after}")


def measure(options: argparse.Namespace) -> int:
    """Run all rounds, print the table, and return 1 if a target was missed."""
    noisy, rounds = 0, []
    with stage(options.size_mib * MIB, options.memory, options.medium) as shared:
        for number in range(options.runs + 1):  # the first one warms up and does not count
            taken = {}
            for contender in CONTENDERS:
                run, is_clean = undisturbed(contender, shared)
                taken[contender.name] = run
                noisy += number > 0 and not is_clean
                print(f"{number}: {contender.name}: {run.wall_s:.2f} s", file=sys.stderr)
            rounds.append(taken)
    figures = report(rounds[1:], options, noisy)
    print(figures)
    insert(options.output, figures)
    return int("**no**" in figures)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="time the native pipeline against MD5 alone")
    parser.add_argument("--size-mib", type=int, default=1024, metavar="N")
    parser.add_argument("--runs", type=int, default=5, metavar="N")
    parser.add_argument("--memory", default=MEMORY, help="tmpfs for the image")
    parser.add_argument("--medium", default=MEMORY, help="folder of the device's backing file")
    parser.add_argument("--output", type=Path, default=PAGE, help="page for the figures")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--install", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the stage is taken down as on Ctrl-C
    options = arguments()
    if options.serve:
        serve(options.serve)
    elif options.install:
        install(json.loads(options.install))
    elif os.geteuid() != 0 or not shutil.which("losetup"):
        print("needs root, for the loop device", file=sys.stderr)
        return 2
    else:
        return measure(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
