# SPDX-License-Identifier: MIT
"""The command line as a person meets it, on a machine without slots."""

import inspect
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sim.broker import free_port
from sim.http_server import HttpServer
from workshop import Workshop, environment, loop_device, md5, run, run_on_terminal

from updater import __version__, cli
from updater.core import errors
from updater.core.model import Firmware, Offer, Session, State
from updater.edge.journal import SqliteJournal
from updater.edge.lock import Lock

MIB = 1 << 20
IMAGE = bytes(range(256)) * (3 * MIB // 256) + b"the end"
COMMANDS = ("run", "status", "install", "write", "mark-good", "rollback", "env", "history")
WRONG = "0" * 32


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A configured machine that has no slots."""
    return Workshop(tmp_path)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image in a file."""
    path = tmp_path / "image"
    path.write_bytes(IMAGE)
    return path


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """A block device that is not blank."""
    with loop_device(tmp_path / "medium", 8 * MIB) as path:
        Path(path).write_bytes(b"\xa5" * 8 * MIB)
        yield path


def words(md5sum: str = md5(IMAGE), size: object = len(IMAGE)) -> list[object]:
    """Return what the command line says of an image."""
    return ["--md5", md5sum, "--size", size]


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


@pytest.mark.parametrize("command", [*COMMANDS, "env print"])
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
    assert documented == sorted({0, *codes})


# --- what is not understood ----------------------------------------------------------------------

MISTAKES = {
    "no command": ([], "required: COMMAND; see: updater --help"),
    "unknown command": (["frobnicate"], "invalid choice: 'frobnicate'"),
    "unknown option": (["status", "--frobnicate"], "unrecognized arguments: --frobnicate"),
    "no action": (["env"], "required: ACTION; see: updater env --help"),
    "limit of none": (["history", "--limit", "0"], "'0' is not a number from 1 to 500"),
    "limit too high": (["history", "--limit", "501"], "'501' is not a number from 1 to 500"),
    "limit no number": (["history", "--limit", "all"], "'all' is not a number from 1 to 500"),
    "no md5": (["write", "x", "--to", "y", "--size", "1"], "required: --md5; see: updater write"),
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
    "out of bounds": ("port = 1", "port = 0", "cloud.port must be from 1 to 65535, is 0"),
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
        "write": [image, "--to", "/dev/null", *words()],
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


# --- updater write -------------------------------------------------------------------------------


def head(device: str) -> bytes:
    """Return the first MiB of the medium, past the page cache."""
    fileno = os.open(device, os.O_RDONLY)
    try:
        os.posix_fadvise(fileno, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.read(fileno, MIB)
    finally:
        os.close(fileno)


@pytest.fixture
def web(image: Path) -> Iterator[HttpServer]:
    """A web server that has the image."""
    with HttpServer() as server:
        server.put({"image": image, "gone": 410, "forbidden": 403, "broken": 500})
        yield server


@pytest.mark.root
@pytest.mark.parametrize("source", ["file", "url"])
def test_write_writes(
    workshop: Workshop, image: Path, device: str, web: HttpServer, source: str
) -> None:
    """The device holds the image, and the answer says what was proven."""
    where = image if source == "file" else f"http://127.0.0.1:{web.port}/image"
    done = workshop.run("write", where, "--to", device, *words(md5(IMAGE).upper()))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{len(IMAGE)} bytes written to {device}, MD5 matched, read back from it\n"
    )
    assert Path(device).read_bytes()[: len(IMAGE)] == IMAGE


@pytest.mark.root
def test_write_says_what_was_not_proven(workshop: Workshop, image: Path, device: str) -> None:
    """Without the read-back the answer does not claim one; for machines it is one object."""
    arguments = ["write", image, "--to", device, "--no-read-back", *words()]
    assert workshop.run(*arguments).stdout.endswith("MD5 matched, not read back\n")
    assert workshop.json(*arguments) == {
        "device": device, "size_bytes": len(IMAGE), "md5": md5(IMAGE),
    }  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize("source", ["file", "url"])
def test_write_of_a_wrong_digest_blanks_the_head(
    workshop: Workshop, image: Path, device: str, web: HttpServer, source: str
) -> None:
    """Exit code 13, both digests in the sentence, and a head that cannot boot."""
    where = image if source == "file" else f"http://127.0.0.1:{web.port}/image"
    done = workshop.run("write", where, "--to", device, *words(WRONG))
    assert (done.returncode, done.stdout) == (13, "")
    assert done.stderr.startswith(f"updater: MD5 is {md5(IMAGE)}, announced was {WRONG}\n")
    assert head(device) == bytes(MIB)


@pytest.mark.root
@pytest.mark.parametrize(
    ("page", "code"), [("missing", 11), ("gone", 11), ("forbidden", 12), ("broken", 10)]
)
def test_write_tells_what_the_server_says(
    workshop: Workshop, device: str, web: HttpServer, page: str, code: int
) -> None:
    """What a server refuses has an exit code of its own; the URL is not in the sentence."""
    url = f"http://127.0.0.1:{web.port}/{page}?sign=secret"
    done = workshop.run("write", url, "--to", device, "--json", *words())
    assert (done.returncode, json.loads(done.stdout)["exit_code"]) == (code, code)
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.root
def test_write_is_refused_before_a_byte_is_written(
    workshop: Workshop, image: Path, device: str
) -> None:
    """No file, another length, no server, no plaintext, no scheme, no room: the device stays."""
    big = image.with_name("big")
    with big.open("wb") as file:
        file.truncate(9 * MIB)
    free = free_port()
    cases: list[tuple[object, list[object], int]] = [
        (image.with_name("none"), words(), 11),
        (image.parent, words(), 11),
        (image, words(size=len(IMAGE) + 1), 13),
        ("ftp://127.0.0.1/image", words(), 14),
        (big, words(size=9 * MIB), 15),
    ]
    for source, proof, code in cases:
        done = workshop.run("write", source, "--to", device, *proof)
        assert done.returncode == code, done
        assert head(device) == b"\xa5" * MIB
    workshop.config.write_text(workshop.config.read_text().replace(
        "[download]\nallow_plaintext = true", "[download]"
    ))  # fmt: skip
    done = workshop.run("write", f"http://127.0.0.1:{free}/image", "--to", device, *words())
    assert done.returncode == 14
    assert "use https" in done.stderr
    assert head(device) == b"\xa5" * MIB


@pytest.mark.root
def test_write_to_a_mounted_device_is_refused(
    workshop: Workshop, image: Path, device: str, tmp_path: Path
) -> None:
    """Exit code 16; the file system on it lives on."""
    subprocess.run(["mkfs.ext4", "-q", "-F", device], check=True)
    folder = tmp_path / "mounted"
    folder.mkdir()
    subprocess.run(["mount", device, folder], check=True)
    try:
        (folder / "file").write_text("here")
        done = workshop.run("write", image, "--to", device, *words())
        assert (folder / "file").read_text() == "here"
    finally:
        subprocess.run(["umount", folder], check=True)
    assert (done.returncode, done.stdout) == (16, "")
    assert "mounted or in use" in done.stderr
    assert "nothing was written" in done.stderr
    subprocess.run(["fsck.ext4", "-n", device], check=True, capture_output=True)


@pytest.mark.root
def test_write_to_the_booted_root_is_refused(
    workshop: Workshop, image: Path, tmp_path: Path
) -> None:
    """The root is told by its device number: another node for it is refused alike."""
    number = Path("/").stat().st_dev
    node = tmp_path / "another-name"
    os.mknod(node, 0o600 | 0o060000, number)
    done = workshop.run("write", image, "--to", node, *words())
    assert (done.returncode, done.stdout) == (16, "")
    assert done.stderr.startswith(f"updater: {node} is the booted root: it is never written\n")


@pytest.mark.parametrize("device", ["/dev/no-such-device", "/dev/null", "{folder}/file"])
def test_write_to_what_is_no_block_device_is_refused(
    workshop: Workshop, image: Path, device: str
) -> None:
    """A device that is missing, a character device, a plain file: exit code 16, nothing made."""
    path = Path(device.format(folder=workshop.folder))
    (workshop.folder / "file").write_text("mine")
    done = workshop.run("write", image, "--to", path, *words())
    assert (done.returncode, done.stdout) == (16, "")
    assert (workshop.folder / "file").read_text() == "mine"
    assert not Path("/dev/no-such-device").exists()


@pytest.mark.root
def test_write_shows_a_live_line(workshop: Workshop, device: str, web: HttpServer) -> None:
    """On a terminal one line lives, is ended by a newline, and the answer follows on stdout."""
    web.bytes_per_s = 3e6
    url = f"http://127.0.0.1:{web.port}/image"
    code, out, seen = run_on_terminal(workshop.command("write", url, "--to", device, *words()))
    assert code == 0
    assert out.startswith(f"{len(IMAGE)} bytes written")
    assert seen.startswith("\r\x1b[K")
    assert seen.endswith("100 %  3.0 of 3.0 MiB  reading back\r\n")
    assert seen.count("\n") == 1


@pytest.mark.root
def test_an_error_stands_below_the_live_line(
    workshop: Workshop, device: str, web: HttpServer
) -> None:
    """What went wrong begins a line of its own."""
    web.bytes_per_s = 6e6
    url = f"http://127.0.0.1:{web.port}/image"
    command = workshop.command("write", url, "--to", device, *words(WRONG))
    code, out, seen = run_on_terminal(command)
    assert (code, out) == (13, "")
    live, error, advice, nothing = seen.split("\r\n")
    assert live.startswith("\r\x1b[K")
    assert error.startswith("updater: MD5 is ")
    assert advice.startswith("  what runs now is untouched")
    assert nothing == ""


@pytest.mark.root
def test_an_interrupted_write_leaves_a_blank_head(
    workshop: Workshop, device: str, web: HttpServer
) -> None:
    """Ctrl-C: exit code 24, and what was begun cannot boot."""
    web.bytes_per_s = 1e6
    url = f"http://127.0.0.1:{web.port}/image"
    with workshop.start("write", url, "--to", device, *words()) as process:
        while not web.served:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (24, "")
    assert err.startswith("updater: interrupted\n")
    assert head(device) == bytes(MIB)
