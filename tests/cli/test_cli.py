# SPDX-License-Identifier: MIT
"""The command line as a person meets it, on a machine without slots."""

import inspect
import json
import os
import re
import signal
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from workshop import Workshop, environment, run, words

from updater import __version__, cli
from updater.core import errors
from updater.core.model import Firmware, Offer, Session, State
from updater.edge.journal import SqliteJournal
from updater.edge.lock import Lock

COMMANDS = (
    "run", "status", "install", "write", "read-back", "cancel", "mark-good", "rollback", "env",
    "offers", "register", "history",
)  # fmt: skip
WRONG = "0" * 32


# --- help ----------------------------------------------------------------------------------------


def test_help_teaches(workshop: Workshop) -> None:
    """Help names each command, what it does, the files, and the exit codes."""
    done = workshop.run("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^    {command} +\w+ \w+", done.stdout, re.MULTILINE), command
    assert "/etc/updater/updater.toml" in done.stdout
    assert "exit codes:\n  0 success" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize("command", [*COMMANDS, "env print", "offers clear"])
def test_each_command_has_help(workshop: Workshop, command: str) -> None:
    """Each command says what it does and which words it takes."""
    done = workshop.run(*command.split(), "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: updater {command} ")
    assert len(done.stdout.splitlines()) > 5


@pytest.mark.parametrize("command", ["install", "write"])
def test_the_example_in_the_help_can_be_copied(
    workshop: Workshop, image: Path, command: str
) -> None:
    """A shell that is given the example's MD5 and size takes them of the file itself."""
    text = workshop.run(command, "--help").stdout
    proof = re.findall(r"^ +(--md5 .*)$", text, re.MULTILINE)[-1]
    script = "echo " + proof.replace("image.ext4", str(image))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(word) for word in words()]


def test_version_is_the_packages(workshop: Workshop) -> None:
    """--version names the program and its version."""
    done = workshop.run("--version")
    assert (done.returncode, done.stdout) == (0, f"updater {__version__}\n")


def test_exit_codes_in_the_help_are_those_of_the_errors(workshop: Workshop) -> None:
    """Each error's code is documented, once, and no code that no error has."""
    text = workshop.run("--help").stdout
    epilog = text.partition("exit codes:\n")[2].partition("\n\n")[0]
    documented = [int(code) for code in re.findall(r"  (\d+) (?=[a-zA-Z])", epilog)]
    classes = [
        kind
        for _name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.UpdaterError)
    ]
    codes = [kind.exit_code for kind in classes]
    assert len(set(codes)) == len(codes)
    assert documented == sorted({0, 130, *codes})


# --- what is not understood ----------------------------------------------------------------------

MISTAKES = {
    "no command": ([], "required: COMMAND; see: updater --help"),
    "unknown command": (["frobnicate"], "invalid choice: 'frobnicate'"),
    "unknown option": (["status", "--frobnicate"], "unrecognized arguments: --frobnicate"),
    "no action": (["env"], "required: ACTION; see: updater env --help"),
    "limit of none": (["history", "--limit", "0"], "'0' is not a number from 1 to 500"),
    "limit too high": (["history", "--limit", "501"], "'501' is not a number from 1 to 500"),
    "limit no number": (["history", "--limit", "all"], "'all' is not a number from 1 to 500"),
    "no md5": (
        ["install", "x", "--firmware-version", "1", "--size", "1"],
        "required: --md5; see: updater install",
    ),
    "no device": (["write", "x"], "required: --to; see: updater write"),
    "short sha256": (
        ["read-back", "x", "--sha256", "0" * 63],
        f"'{'0' * 63}' is not a SHA-256: 64 hexadecimal digits",
    ),
    "short md5": (
        ["write", "x", "--to", "y", "--size", "1", "--md5", "0" * 31],
        f"'{'0' * 31}' is not an MD5: 32 hexadecimal digits",
    ),
    "odd md5": (
        ["write", "x", "--to", "y", "--size", "1", "--md5", "g" * 32],
        "is not an MD5: 32 hexadecimal digits",
    ),
    "size with unit": (
        ["write", "x", "--to", "y", "--size", "1M", "--md5", WRONG],
        "'1M' is not a size: bytes, as a whole number",
    ),
    "size of none": (
        ["install", "x", "--firmware-version", "1", "--size", "0", "--md5", WRONG],
        "'0' is not a size: bytes, as a whole number",
    ),
    "version with a blank": (
        ["install", "x", "--firmware-version", "v 1", "--size", "1", "--md5", WRONG],
        "'v 1' is not a version",
    ),
}


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_a_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not understood is named on stderr, with where to read on; the exit code is 2."""
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("updater: ")
    assert sentence in said.err
    assert said.err.endswith("--help\n")


@pytest.mark.parametrize("mistake", ["no command", "unknown option", "short md5"])
def test_a_mistake_is_an_object_for_machines(workshop: Workshop, mistake: str) -> None:
    """With --json what is not understood is one JSON object on stdout, and stderr is empty."""
    arguments, sentence = MISTAKES[mistake]
    done = workshop.run(*arguments, "--json")
    said = json.loads(done.stdout)
    assert (said["error"], said["exit_code"], done.returncode) == ("UsageError", 2, 2)
    assert sentence in said["message"]
    assert done.stderr == ""


@pytest.mark.parametrize("place", ["before", "after"])
def test_common_options_stand_on_either_side(workshop: Workshop, place: str) -> None:
    """--json and --config are understood before and after the command."""
    common = ["--json", "--config", str(workshop.config)]
    command = ["history", "--limit", "3"]
    words = [*common, *command] if place == "before" else [*command, *common]
    done = workshop.run(*words)
    assert json.loads(done.stdout) == {"entries": []}


# --- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config", "board"])
@pytest.mark.parametrize("command", ["status", "run", "env print"])
def test_a_missing_configuration_is_explained(workshop: Workshop, name: str, command: str) -> None:
    """Exit code 3, and a sentence that names the file and where an example is."""
    path: Path = getattr(workshop, name)
    path.unlink()
    done = workshop.run(*command.split())
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"updater: there is no {path}: ")
    assert "board/qemu-arm64 has an example" in done.stderr
    assert "nothing was changed" in done.stderr


BROKEN = {
    "typing error": ("port = 1", "prot = 1", "unknown key cloud.prot; did you mean port?"),
    "unknown table": ("[cloud]\n", "[clout]\n", "unknown key clout; did you mean cloud?"),
    "no TOML": ("[cloud]\n", "[cloud\n", "updater.toml: "),
    "wrong type": ("port = 1", 'port = "1"', "cloud.port must be a int, is '1'"),
    "out of bounds": ("port = 1", "port = -1", "cloud.port must be from 0 to 65535, is -1"),
    "missing key": ('host = "127.0.0.1"', "", "cloud.host is missing: host name of the MQTT"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "sentence"), BROKEN.values(), ids=BROKEN.keys())
def test_a_wrong_configuration_is_explained(
    workshop: Workshop, old: str, new: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3, and a sentence that names file, key and what would be right."""
    workshop.config.write_text(workshop.config.read_text().replace(old, new, 1))
    assert cli.main(["--config", str(workshop.config), "status"]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert f"updater: {workshop.config}: " in said.err
    assert sentence in said.err


def test_a_configuration_that_is_no_text_is_explained(workshop: Workshop) -> None:
    """Exit code 3 for a file of bytes."""
    workshop.config.write_bytes(b"\xff\xfe")
    done = workshop.run("status")
    assert done.returncode == 3
    assert done.stderr.startswith(f"updater: cannot read {workshop.config}: is no UTF-8\n")


# --- looking -------------------------------------------------------------------------------------
# Reading the environment takes root: the lock files that U-Boot's tools share are in /run.


@pytest.mark.root
def test_status_without_slots_explains_itself(workshop: Workshop) -> None:
    """What is known is told, what is not is a problem with a way to mend it; exit code 0."""
    done = workshop.run("status")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "board workshop, version 1.0.0",
        "boots next: slot A",
        "no agent runs here; it is started by: updater run",
    ]
    assert re.fullmatch(r"problem: (this system|slot A: partlabel).*", lines[3])
    assert lines[4] == (
        "no firmware is installed until this is mended; what runs now keeps running"
    )
    assert lines[5].startswith("to do: compare the slot table in board.toml with: lsblk")
    assert len(lines) == 6


@pytest.mark.root
def test_status_for_machines_has_the_same_facts(workshop: Workshop) -> None:
    """One object; what cannot be told is null and has a sentence in problems."""
    said = workshop.json("status")
    assert (said["board"], said["version"], said["agent"]) == ("workshop", "1.0.0", False)
    assert said["boot"] == {"primary": "A", "trial": False, "bootcount": 0, "session": ""}
    assert said["slots"] is None
    assert said["session"] is None
    assert len(said["problems"]) == 1


@pytest.mark.root
def test_status_without_an_environment_says_which_file(workshop: Workshop) -> None:
    """A machine without a boot environment has a status too, which names what is missing."""
    workshop.fw_env.unlink()
    done = workshop.run("status")
    assert done.returncode == 0
    assert f"problem: cannot read {workshop.fw_env}: " in done.stdout
    assert (
        "to do: compare fw_env.config with where U-Boot stores variables: fw_printenv"
        in done.stdout
    )
    assert "boots next" not in done.stdout


@pytest.mark.root
def test_status_takes_no_lock(workshop: Workshop) -> None:
    """Looking works while another process writes."""
    with closing(Lock(str(workshop.lock))):
        assert workshop.run("status").returncode == 0
        assert workshop.run("history").returncode == 0
        assert workshop.run("env", "print").returncode == 0


@pytest.mark.root
def test_env_print_shows_what_the_fields_tool_shows(workshop: Workshop) -> None:
    """Variables in order of their names, as text and as an object."""
    expected = workshop.environment()
    done = workshop.run("env", "print")
    assert done.stdout.splitlines() == [f"{name}={expected[name]}" for name in sorted(expected)]
    assert workshop.json("env", "print") == expected


@pytest.mark.root
def test_env_print_shows_what_is_no_text(workshop: Workshop) -> None:
    """Odd bytes are shown, whatever the locale; and who stops reading hears nothing."""
    run(["fw_setenv", "-c", str(workshop.fw_env), "odd", b"caf\xe9"])
    command = workshop.command("env", "print")
    strict = environment(PYTHONIOENCODING="utf-8:strict")
    done = subprocess.run(command, capture_output=True, env=strict, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\nodd=caf\\xe9\n" in done.stdout
    assert workshop.json("env", "print")["odd"] == "caf\udce9"
    with workshop.start("env", "print") as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (-signal.SIGPIPE, "")


@pytest.mark.root
@pytest.mark.parametrize("command", ["env print", "mark-good", "rollback"])
def test_a_corrupt_environment_is_told(workshop: Workshop, command: str) -> None:
    """Two bad copies: exit code 18, and nothing is repaired by the way."""
    for number in (0, 1):
        copy = workshop.folder / f"environment-{number}"
        copy.write_bytes(b"\0" * copy.stat().st_size)
    done = workshop.run(*command.split())
    if command == "env print":
        assert done.returncode == 18
        assert done.stderr.startswith("updater: no copy of the environment has a valid CRC")
        assert "what runs now is untouched" in done.stderr
    else:
        assert done.returncode == 19  # the slots are looked at first
    assert not any((workshop.folder / "environment-0").read_bytes())


def test_history_is_newest_first_and_limited(workshop: Workshop) -> None:
    """Lines have a time in UTC, version, state and text; --limit counts lines."""
    assert workshop.run("history").stdout == "nothing has happened yet\n"
    remember(workshop, 3)
    done = workshop.run("history", "--limit", "2")
    assert done.stdout.splitlines() == [
        "2023-11-14 22:13:22  9.9  failed  line 2",
        "2023-11-14 22:13:21  9.9  failed  line 1",
    ]
    entries = workshop.json("history")["entries"]
    assert [entry["text"] for entry in entries] == ["line 2", "line 1", "line 0"]
    assert entries[0]["time_s"] == 1_700_000_002


def remember(workshop: Workshop, lines: int, text: str = "line") -> None:
    """Write lines of history, a second apart."""
    offer = Offer(Firmware("9.9", WRONG, 1), "https://127.0.0.1/x?sign=secret")
    session = Session("5e55", State.FAILED, offer, "B", "A", reason="told")
    times = iter(range(1_700_000_000, 1_700_000_000 + lines))
    with closing(SqliteJournal(str(workshop.folder / "state"), lambda: next(times))) as journal:
        for number in range(lines):
            journal.save(session, f"{text} {number}")


def test_a_lost_journal_is_told(workshop: Workshop) -> None:
    """History says exit code 20 and why; status still answers, and says it on stderr."""
    (workshop.folder / "state").write_text("a file, not a folder")
    done = workshop.run("history")
    assert (done.returncode, done.stdout) == (20, "")
    assert f"updater: journal {workshop.folder}/state/journal.sqlite: " in done.stderr
    assert "state directory" in done.stderr
    done = workshop.run("status")
    assert done.returncode == 0
    assert "no install is begun until this is mended" in done.stderr


def test_a_secret_url_is_nowhere(workshop: Workshop) -> None:
    """A signed URL is shown neither by status nor by history."""
    remember(workshop, 1)
    for command in ("status", "history"):
        for options in ([], ["--json"]):
            done = workshop.run(command, *options)
            assert "9.9" in done.stdout
            assert "secret" not in done.stdout + done.stderr


# --- verdicts without slots ----------------------------------------------------------------------


@pytest.mark.parametrize("command", ["mark-good", "rollback"])
def test_without_slots_there_is_no_verdict(workshop: Workshop, command: str) -> None:
    """Exit code 19, why, and what to compare; no reboot."""
    done = workshop.run(command)
    assert (done.returncode, done.stdout) == (19, "")
    assert "nothing was written; compare the slot table" in done.stderr
    said = workshop.json(command)
    assert (said["error"], said["exit_code"]) == ("SlotError", 19)
    assert not workshop.rebooted.exists()


def test_install_without_slots_is_refused(workshop: Workshop, image: Path) -> None:
    """Exit code 19, and no session is left behind."""
    done = workshop.run("install", image, "--firmware-version", "2", *words())
    assert (done.returncode, done.stdout) == (19, "")
    assert workshop.json("status")["session"] is None


@pytest.mark.parametrize("command", ["run", "write", "install", "mark-good", "rollback"])
def test_two_never_write_at_once(workshop: Workshop, image: Path, command: str) -> None:
    """While another process has the lock, exit code is 5 and its process id is named."""
    more = {
        "write": [image, "--to", image.with_name("copy"), *words()],
        "install": [image, "--firmware-version", "2", *words()],
    }
    with closing(Lock(str(workshop.lock))):
        done = workshop.run(command, *more.get(command, []))
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith(
        f"updater: another updater works on this device (process {os.getpid()})\n"
    )
    assert "nothing was changed" in done.stderr


def test_a_socket_that_nobody_serves_is_no_agent(workshop: Workshop) -> None:
    """What a killed agent has left behind stands in nobody's way."""
    with closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(str(workshop.control))
    assert "no agent runs here" in workshop.run("status").stdout


def test_an_agent_that_says_nonsense_is_told(workshop: Workshop) -> None:
    """Whatever answers at the socket, the command ends with exit code 7 and a sentence."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(workshop.control))
        listener.listen()
        with workshop.start("status") as process:
            peer, _address = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"nonsense\0")
            _out, err = process.communicate(timeout=20)
    assert process.returncode == 7
    assert err.startswith("updater: message is no JSON\n")


@pytest.mark.root
def test_a_user_without_rights_is_told(workshop: Workshop) -> None:
    """Who may not talk to the agent hears so, and what to do: exit code 4."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(workshop.control))
        listener.listen()
        workshop.control.chmod(0o660)
        workshop.user = 65534
        done = workshop.run("status")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == (
        f"updater: this user may not talk to the agent at {workshop.control}\n"
        "  nothing was changed; run it as root\n"
    )


@pytest.mark.root
@pytest.mark.parametrize("command", ["run", "mark-good"])
def test_the_lock_is_for_those_with_rights(workshop: Workshop, command: str) -> None:
    """Who may not open the lock changes nothing: exit code 4."""
    workshop.user = 65534
    done = workshop.run(command)
    assert done.returncode == 4
    assert f"updater: cannot open the lock {workshop.lock}: Permission denied" in done.stderr
