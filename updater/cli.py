# SPDX-License-Identifier: MIT
"""The command line: arguments, output, exit codes.

Exit codes are those of ``updater.core.errors``; 0 is success and 1 an error without a class of its
own. With ``--json`` the answer is one JSON object on standard output, errors included; without it
sentences for people go to standard output and errors to standard error.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from updater import __version__, commands
from updater.core.errors import UpdaterError

_EPILOG = """\
exit codes:
  0 success   2 usage   3 configuration   4 not permitted   5 busy   6 not now   7 agent unreachable
  10 transport   11 not found   12 URL refused   13 digest or length   14 scheme   15 no space
  16 device refused   17 storage   18 environment   19 slots   20 journal   21 link   22 offer
  23 health   24 cancelled   70 internal

files:
  /etc/updater/updater.toml   this device: cloud, credentials, limits, health
  /etc/updater/board.toml     the board: slot table, boot environment
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(levelname).1s %(message)s",
        stream=sys.stderr,
    )
    try:
        answer = options.command(options)
    except UpdaterError as error:
        return _failed(error, is_json=options.json)
    except KeyboardInterrupt:
        return 130
    _print(answer, options)
    return 0


def _failed(error: UpdaterError, *, is_json: bool) -> int:
    """Say what went wrong and return the exit code that goes with it."""
    if is_json:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
    else:
        print(f"updater: {error}", file=sys.stderr)
    return error.exit_code


def _print(answer: commands.Answer, options: argparse.Namespace) -> None:
    """Print the answer for whoever reads it."""
    if options.json and answer.value is not None:
        print(json.dumps(answer.value, ensure_ascii=True))
    elif answer.text and not options.json:
        print(answer.text)


def _parser() -> argparse.ArgumentParser:
    """Return the grammar of the command line."""
    parser = argparse.ArgumentParser(
        prog="updater",
        description="Keeps the firmware of this device current; a bad one falls back by itself.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"updater {__version__}")
    parser.add_argument(
        "--config",
        default="/etc/updater/updater.toml",
        metavar="FILE",
        help="configuration of this device (default: %(default)s)",
    )
    parser.add_argument("--verbose", action="store_true", help="log more")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
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
    history.add_argument("--limit", type=int, default=20, metavar="N", help="lines (default: 20)")
    return parser


_Sub = argparse._SubParsersAction  # argparse has no public name for it


def _add(
    sub: "_Sub[argparse.ArgumentParser]",
    name: str,
    command: Callable[[argparse.Namespace], commands.Answer],
    text: str,
) -> argparse.ArgumentParser:
    """Add one command; ``--json`` may stand after it as well."""
    parser = sub.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="answer in JSON"
    )
    parser.set_defaults(command=command)
    return parser


def _add_install(sub: "_Sub[argparse.ArgumentParser]") -> None:
    parser = _add(
        sub,
        "install",
        commands.install,
        "install a firmware, then boot it on trial: same as an offer",
    )
    parser.add_argument("source", metavar="URL|FILE", help="http(s) URL or path of the image")
    parser.add_argument("--firmware-version", required=True, metavar="V", help="its version")
    parser.add_argument("--md5", required=True, metavar="HEX", help="its MD5, 32 digits")
    parser.add_argument("--size", required=True, type=int, metavar="BYTES", help="its exact size")


def _add_write(sub: "_Sub[argparse.ArgumentParser]") -> None:
    parser = _add(
        sub, "write", commands.write, "write an image to a device, without touching the environment"
    )
    parser.add_argument("source", metavar="URL|FILE", help="http(s) URL or path of the image")
    parser.add_argument("--to", required=True, metavar="DEVICE", help="block device to write")
    parser.add_argument("--md5", required=True, metavar="HEX", help="MD5 of the image, 32 digits")
    parser.add_argument("--size", required=True, type=int, metavar="BYTES", help="its exact size")
    parser.add_argument("--no-read-back", action="store_true", help="do not read the medium back")


def entry() -> NoReturn:
    """Run as a program."""
    sys.exit(main())
