# SPDX-License-Identifier: MIT
"""A Python of 3.13 or newer, which may be another one than that of the tests.

Debian 12 has none. Where nobody has installed one, that of Debian 13 is unpacked into the cache,
with all the libraries that it needs, the C library first: nothing of this machine changes.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import paho
import pytest

from board.emulator import debian
from board.emulator.cache import cached

HERE = Path(__file__).parent
SUITE = "trixie"


def _candidates() -> Iterator[str]:
    """Yield interpreters that may do: this one, those in the path, those of pyenv."""
    yield sys.executable
    for minor in range(13, 20):
        found = shutil.which(f"python3.{minor}")
        yield from [found] if found else []
        kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        yield from map(str, kept.glob(f"3.{minor}.*/bin/python"))
    yield _of_debian_13()


def _of_debian_13() -> str:
    """Return Debian 13's Python, which its own loader runs over its own libraries; or skip."""
    architecture = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    try:
        tree = debian.tree("python", architecture, ("python3.13",), closure=True, suite=SUITE)
    except RuntimeError as error:
        pytest.skip(f"no Python here has TLS-PSK, and Debian 13's is not to be had: {error}")

    def build(place: Path) -> None:
        [loader] = tree.glob("usr/lib/*-linux-gnu*/ld-linux*.so.*")
        command = [loader, "--library-path", loader.parent, tree / "usr/bin/python3.13"]
        script = place / "python"
        script.write_text(
            f"#!/bin/sh\nexport PYTHONHOME={shlex.quote(str(tree / 'usr'))}\n"
            f'exec {shlex.join(map(str, command))} "$@"\n'
        )
        script.chmod(0o755)

    return str(cached("python-of-debian-13", (str(tree),), build) / "python")


def newer_python() -> str:
    """Return an interpreter that has TLS-PSK, or skip."""
    check = "import ssl; raise SystemExit(not getattr(ssl, 'HAS_PSK', False))"
    for each in _candidates():
        if subprocess.run([each, "-c", check], capture_output=True, check=False).returncode == 0:
            return each
    pytest.skip("no Python here has TLS-PSK: 3.13 or newer is needed")


def device(folder: Path, **settings: Any) -> dict[str, Any]:
    """Return what happened to a device of *settings* in a newer Python."""
    known = {"host": "127.0.0.1", "product_id": "P", "device_name": "D"}
    return device_by([newer_python()], folder, {**known, **settings})


def device_by(python: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same by the command *python*, to which paho is lent in *folder*."""
    (folder / "paho").symlink_to(Path(next(iter(paho.__path__))))
    path = os.pathsep.join(map(str, (folder, HERE, HERE.parent, HERE.parent.parent)))
    done = subprocess.run(
        [*python, str(HERE / "device.py"), json.dumps(settings)],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        timeout=30,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
