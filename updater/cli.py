# SPDX-License-Identifier: MIT
"""The command line: arguments, output, exit codes.

Exit codes are those of ``updater.core.errors``; 0 is success, 1 an error without a class of its
own, and 130 follows on Ctrl-C as in a shell. With ``--json`` the answer is one JSON object on
standard output, errors included; without it sentences for people go to standard output and errors
to standard error.
"""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from updater import __version__, arguments
from updater.answer import Answer
from updater.core.errors import CancelledError, UpdaterError, UsageError
from updater.progressline import CLEAR_LINE, silence
from updater.settings import DEFAULT_CONFIG
from updater.texts import advice

_AGENT = "commands.run"

_SHELL_SIGNAL = 128  # what a shell adds to the number of the signal that ended a command

_EPILOG = """\
exit codes:
  0 success   1 install failed on this device   2 usage   3 configuration   4 not permitted
  5 busy   6 not now   7 agent unreachable
  10 transport   11 not found   12 URL refused   13 digest or length   14 scheme   15 no space
  16 device refused   17 storage   18 environment   19 slots   20 journal   21 link   22 offer
  23 health   24 cancelled   25 begin anew   26 format   70 internal   130 interrupted

files:
  /etc/updater/updater.toml   this device: cloud, credentials, limits, health
  /etc/updater/board.toml     the board: slot table, boot environment
"""

_INSTALL_EXAMPLE = """\
example:
  updater install image.ext4 --firmware-version 1.2.3 \\
      --md5 "$(md5sum <image.ext4 | cut -c -32)" --size "$(stat -c %s image.ext4)"
"""

_WRITE_EXAMPLES = """\
examples:
  updater write image.ext4 --to /dev/mmcblk0p2
      A file to a partition; its MD5 is computed and told, there is nothing to compare it with.

  updater write https://example.com/image.ext4 --to /dev/sdb --md5 HEX --size BYTES
      A download that goes on where it was if this command is given again after an interruption.

  ssh build cat image.ext4 | updater write - --to /dev/mtd4 --json
      Standard input to flash; the summary is one JSON object.

  updater write image.ext4 --to /dev/mmcblk0p2 \\
      --md5 "$(md5sum <image.ext4 | cut -c -32)" --size "$(stat -c %s image.ext4)"
      Proven against what the file is now.

gzip, xz and zstd are unpacked by the way, told by their first bytes; --md5, --sha256 and --size are
then those of the compressed file. A block device, an MTD partition (/dev/mtdN), a UBI volume
(/dev/ubiX_Y) or a file is written; docs/media.md says how each of them, and what a cut leaves.
"""

_READ_BACK_EXAMPLES = """\
examples:
  updater read-back /dev/mmcblk0p2 --size BYTES --md5 HEX
      Whether the partition begins with that image: exit code 0, or 13.

  updater read-back /dev/mtd4
      What the whole partition holds, bad blocks left out.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    is_json = "--json" in words
    try:
        options = _parser().parse_args(words)
        _log_to_stderr(options)
        answer = _carried_out(options)
    except UpdaterError as error:
        return _failed(error, is_json=is_json)
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt, is_json=is_json)
    _print(answer, options)
    return 0


def _carried_out(options: argparse.Namespace) -> Answer:
    """Import what the command needs and no more: a start is most of a small image's time."""
    module, function = options.command.split(".")
    answer: Answer = getattr(import_module(f"updater.{module}"), function)(options)
    return answer


def _log_to_stderr(options: argparse.Namespace) -> None:
    """Log what the agent does; of other commands what goes wrong, in place of a live line."""
    is_agent = options.command == _AGENT
    level = logging.INFO if is_agent else logging.WARNING
    clear = CLEAR_LINE if sys.stderr.isatty() and not is_agent else ""
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else level,
        format=f"{clear}%(levelname).1s %(message)s",
        stream=sys.stderr,
    )


def _failed(error: UpdaterError, *, is_json: bool) -> int:
    """Say what went wrong, what that leaves and what to do, and return the exit code."""
    notes = getattr(error, "__notes__", [])
    return _say(error, error.exit_code, notes, advice(error), is_json=is_json)


def _interrupted(interrupt: KeyboardInterrupt, *, is_json: bool) -> int:
    """Say what was left behind: the interrupt's arguments are a signal's number and that, or none.

    Returns:
        What a shell returns for a command that a signal has ended.
    """
    number, *left = interrupt.args or (signal.SIGINT,)
    error = CancelledError("interrupted")
    code = _SHELL_SIGNAL + number
    return _say(error, code, left, () if left else advice(error), is_json=is_json)


def _say(
    error: UpdaterError, code: int, notes: list[str], advised: Sequence[str], *, is_json: bool
) -> int:
    if is_json:
        facts = {
            "error": type(error).__name__,
            "message": str(error),
            "notes": notes,
            "exit_code": code,
        }
        print(json.dumps(facts))
    else:
        try:
            print(f"updater: {error}", *notes, *advised, sep="\n  ", file=sys.stderr)
        except OSError:  # nobody listens; the code tells
            silence(sys.stderr)
    return code


def _print(answer: Answer, options: argparse.Namespace) -> None:
    """Print the answer for whoever reads it; if the reader has gone, end as any tool does."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if options.json and answer.value is not None:
        print(json.dumps(answer.value, ensure_ascii=True))
    elif answer.text and not options.json:
        raw = answer.text.encode("utf-8", "surrogateescape")  # U-Boot's variables are bytes
        print(raw.decode("utf-8", "backslashreplace"))


# --- grammar -------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Leaves it to ``main`` to say what is wrong, in JSON if that was asked for."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see: {self.prog} --help")


def _common() -> _Parser:
    """Return what may stand before and after a command."""
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument(
        "--config", metavar="FILE", help=f"configuration of this device (default: {DEFAULT_CONFIG})"
    )
    common.add_argument("--verbose", action="store_true", help="log more")
    common.add_argument("--json", action="store_true", help="answer in JSON, errors too")
    return common


def _parser() -> argparse.ArgumentParser:
    """Return the grammar of the command line."""
    parser = _Parser(
        prog="updater",
        description="Keeps the firmware of this device current; a bad one falls back by itself.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common()],
    )
    parser.set_defaults(config=DEFAULT_CONFIG, verbose=False, json=False)
    parser.add_argument("--version", action="version", version=f"updater {__version__}")
    sub = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add(sub, "run", _AGENT, "run the agent: wait for offers and install them")
    _add(sub, "status", "commands.status", "what runs, what each slot holds, what is going on")
    _add_install(sub)
    _add_write(sub)
    _add_read_back(sub)
    _add(sub, "activate", "commands.activate", "reboot into what is installed, without its window")
    cancel = _add(sub, "cancel", "commands.cancel", "end the install that goes on, before it boots")
    cancel.add_argument(
        "--reason", metavar="TEXT", help="why, for the cloud: at most 100 characters of ASCII"
    )
    _add(sub, "mark-good", "commands.mark_good", "keep the booted slot: it is on trial and works")
    _add(sub, "rollback", "commands.rollback", "return to the other slot and reboot")
    environment = sub.add_parser("env", help="the boot environment")
    actions = environment.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add(actions, "print", "commands.env_print", "print every variable as U-Boot sees it")
    register = _add(sub, "register", "commands.register", "get this device's secret from the cloud")
    register.add_argument(
        "--again",
        action="store_true",
        help="also if it has one: the device was reset in the console",
    )
    offers = _add(sub, "offers", "offers.listed", "which offers have failed here, and what follows")
    failed = offers.add_subparsers(title="actions", metavar="ACTION")
    _add(failed, "clear", "offers.clear", "forget that: what is offered next is tried at once")
    history = _add(sub, "history", "commands.history", "what happened, newest first")
    history.add_argument(
        "--limit",
        type=arguments.limit,
        default=20,
        metavar="N",
        help="how many lines (default: 20)",
    )
    return parser


_Sub = argparse._SubParsersAction  # argparse has no public name for it


def _add(
    sub: "_Sub[_Parser]",
    name: str,
    command: str,
    text: str,
    epilog: str = "",
) -> "_Parser":
    """Add one command."""
    parser = sub.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common()],
    )
    parser.set_defaults(command=command)
    return parser


def _add_install(sub: "_Sub[_Parser]") -> None:
    parser = _add(
        sub,
        "install",
        "images.install",
        "install a firmware, then boot it on trial: same as an offer",
        _INSTALL_EXAMPLE,
    )
    parser.add_argument("source", metavar="URL|FILE", help="http(s) URL or path of the image")
    parser.add_argument(
        "--md5", required=True, type=arguments.md5, metavar="HEX", help="its MD5, 32 digits"
    )
    parser.add_argument(
        "--size", required=True, type=arguments.size_bytes, metavar="BYTES", help="its exact size"
    )
    parser.add_argument(
        "--firmware-version", required=True, type=arguments.version, metavar="V", help="its version"
    )
    parser.add_argument(
        "--no-wait", action="store_true", help="return once the running agent has begun"
    )


def _add_write(sub: "_Sub[_Parser]") -> None:
    parser = _add(
        sub,
        "write",
        "writing.write",
        "write an image to a device or a file, without touching the environment",
        _WRITE_EXAMPLES,
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="http(s) URL, file or device; - is standard input")
    add("--to", required=True, metavar="DEVICE", help="what is written: a device, or a file")
    _add_proof(parser, "the source's")
    add(
        "--image-size",
        type=arguments.size_bytes,
        metavar="BYTES",
        help="size of the image when unpacked",
    )
    add("--raw", action="store_true", help="write a compressed source as it is")
    add("--no-read-back", action="store_true", help="do not read the medium back")
    add("--skip-identical", action="store_true", help="write only what differs: less wear")
    add("--fresh", action="store_true", help="do not go on with an interrupted write")
    add("--allow-plaintext", action="store_true", help="take an http URL, whatever is configured")


def _add_read_back(sub: "_Sub[_Parser]") -> None:
    parser = _add(
        sub,
        "read-back",
        "writing.read_back",
        "read a device past the page cache and compare its digest, or tell it",
        _READ_BACK_EXAMPLES,
    )
    parser.add_argument("device", metavar="DEVICE", help="what is read: a device, or a file")
    _add_proof(parser, "the expected")


def _add_proof(parser: argparse.ArgumentParser, whose: str) -> None:
    """Add what an image can be compared with."""
    add = parser.add_argument
    add("--md5", type=arguments.md5, metavar="HEX", help=f"{whose} MD5, 32 digits; computed anyway")
    add(
        "--sha256", nargs="?", const="", type=arguments.sha256, metavar="HEX",
        help=f"{whose} SHA-256, 64 digits; without them it is computed and told",
    )  # fmt: skip
    add(
        "--size",
        type=arguments.size_bytes,
        metavar="BYTES",
        help=f"{whose} exact size, if it is known",
    )


def entry() -> NoReturn:
    """Run as a program; what a caller has closed is nowhere, not nothing."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - a device, until the end
    sys.exit(main())
