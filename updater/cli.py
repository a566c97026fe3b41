# SPDX-License-Identifier: MIT
"""The command line: arguments, output, exit codes.

Exit codes are those of ``updater.core.errors``; 0 is success and 1 an error without a class of its
own. With ``--json`` the answer is one JSON object on standard output, errors included; without it
sentences for people go to standard output and errors to standard error.
"""

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from updater import __version__, commands, images
from updater.core import messages
from updater.core.errors import CancelledError, OfferError, UpdaterError, UsageError
from updater.desk import HISTORY_LIMIT, history_limit
from updater.texts import CLEAR_LINE, advice

T = TypeVar("T")

_CONFIG = "/etc/updater/updater.toml"

_EPILOG = """\
exit codes:
  0 success   1 install failed on this device   2 usage   3 configuration   4 not permitted
  5 busy   6 not now   7 agent unreachable
  10 transport   11 not found   12 URL refused   13 digest or length   14 scheme   15 no space
  16 device refused   17 storage   18 environment   19 slots   20 journal   21 link   22 offer
  23 health   24 cancelled   70 internal

files:
  /etc/updater/updater.toml   this device: cloud, credentials, limits, health
  /etc/updater/board.toml     the board: slot table, boot environment
"""

_EXAMPLE = """\
example:
  updater {command} \\
      --md5 "$(md5sum <image.ext4 | cut -c -32)" --size "$(stat -c %s image.ext4)"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    is_json = "--json" in arguments
    try:
        options = _parser().parse_args(arguments)
        _log_to_stderr(options)
        answer = options.command(options)
    except UpdaterError as error:
        return _failed(error, is_json=is_json)
    except KeyboardInterrupt:
        return _failed(CancelledError("interrupted"), is_json=is_json)
    _print(answer, options)
    return 0


def _log_to_stderr(options: argparse.Namespace) -> None:
    """Log what the agent does; of other commands what goes wrong, in place of a live line."""
    is_agent = options.command is commands.run
    level = logging.INFO if is_agent else logging.WARNING
    clear = CLEAR_LINE if sys.stderr.isatty() and not is_agent else ""
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else level,
        format=f"{clear}%(levelname).1s %(message)s",
        stream=sys.stderr,
    )


def _failed(error: UpdaterError, *, is_json: bool) -> int:
    """Say what went wrong, and what to do, and return the exit code that goes with it."""
    if is_json:
        facts = {
            "error": type(error).__name__,
            "message": str(error),
            "exit_code": error.exit_code,
        }
        print(json.dumps(facts))
    else:
        print(f"updater: {error}", *advice(error), sep="\n  ", file=sys.stderr)
    return error.exit_code


def _print(answer: commands.Answer, options: argparse.Namespace) -> None:
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
        "--config", metavar="FILE", help=f"configuration of this device (default: {_CONFIG})"
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
    parser.set_defaults(config=_CONFIG, verbose=False, json=False)
    parser.add_argument("--version", action="version", version=f"updater {__version__}")
    sub = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add(sub, "run", commands.run, "run the agent: wait for offers and install them")
    _add(sub, "status", commands.status, "what runs, what each slot holds, what is going on")
    _add_install(sub)
    _add_write(sub)
    _add(sub, "mark-good", commands.mark_good, "keep the booted slot: it is on trial and works")
    _add(sub, "rollback", commands.rollback, "return to the other slot and reboot")
    environment = sub.add_parser("env", help="the boot environment")
    actions = environment.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add(actions, "print", commands.env_print, "print every variable as U-Boot sees it")
    history = _add(sub, "history", commands.history, "what happened, newest first")
    history.add_argument(
        "--limit", type=_limit, default=20, metavar="N", help="how many lines (default: 20)"
    )
    return parser


_Sub = argparse._SubParsersAction  # argparse has no public name for it


def _add(
    sub: "_Sub[_Parser]",
    name: str,
    command: Callable[[argparse.Namespace], commands.Answer],
    text: str,
    epilog: str = "",
) -> argparse.ArgumentParser:
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
        images.install,
        "install a firmware, then boot it on trial: same as an offer",
        _EXAMPLE.format(command="install image.ext4 --firmware-version 1.2.3"),
    )
    _add_image(parser)
    parser.add_argument(
        "--firmware-version", required=True, type=_version, metavar="V", help="its version"
    )
    parser.add_argument(
        "--no-wait", action="store_true", help="return once the running agent has begun"
    )


def _add_write(sub: "_Sub[_Parser]") -> None:
    parser = _add(
        sub,
        "write",
        images.write,
        "write an image to a device, without touching the environment",
        _EXAMPLE.format(command="write image.ext4 --to /dev/mmcblk0p2"),
    )
    _add_image(parser)
    parser.add_argument("--to", required=True, metavar="DEVICE", help="block device to write")
    parser.add_argument("--no-read-back", action="store_true", help="do not read the medium back")


def _add_image(parser: argparse.ArgumentParser) -> None:
    """Add what names an image and proves it."""
    parser.add_argument("source", metavar="URL|FILE", help="http(s) URL or path of the image")
    parser.add_argument("--md5", required=True, type=_md5, metavar="HEX", help="its MD5, 32 digits")
    parser.add_argument(
        "--size", required=True, type=_size_bytes, metavar="BYTES", help="its exact size"
    )


def _md5(text: str) -> str:
    return _checked(messages.check_md5, text, "an MD5: 32 hexadecimal digits")


def _size_bytes(text: str) -> int:
    return _checked(messages.check_size_bytes, text, "a size: bytes, as a whole number")


def _version(text: str) -> str:
    return _checked(
        messages.check_version, text, "a version: 1 to 32 letters, digits, '.', '-' and '_'"
    )


def _limit(text: str) -> int:
    try:
        return history_limit(int(text))
    except (ValueError, UsageError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number from 1 to {HISTORY_LIMIT}"
        ) from None


def _checked(check: Callable[[object], T], text: str, what: str) -> T:
    """Return *text* within the limits that the cloud's messages have too."""
    try:
        return check(text)
    except OfferError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None


def entry() -> NoReturn:
    """Run as a program."""
    sys.exit(main())
