# SPDX-License-Identifier: MIT
"""``updater write`` where what is beside it goes astray: the object, the image, the listener."""

import gzip
import http.server
import os
import pty
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from workshop import IMAGE, MIB, Workshop, environment, head, loop_device, words

OLD = b"\xa5"
SIZE = 32 * MIB


@pytest.fixture
def device(workshop: Workshop) -> Iterator[str]:
    with loop_device(workshop.folder / "medium", SIZE) as path:
        Path(path).write_bytes(OLD * SIZE)
        yield path


class Changing(http.server.BaseHTTPRequestHandler):
    """Sends half of an object, then says that it is another one, then that there is none."""

    asked = 0

    def do_GET(self) -> None:
        turn, Changing.asked = Changing.asked, Changing.asked + 1
        if turn > 1:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("ETag", f'"{turn}"')
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()
        self.wfile.write(bytes(SIZE // 2))
        self.close_connection = True

    def log_message(self, *_args: object) -> None:
        pass


@pytest.mark.root
def test_what_an_earlier_start_has_left_is_told(workshop: Workshop, device: str) -> None:
    """The object changed and then was gone: the first start has blanked the medium, and says so."""
    Changing.asked = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Changing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/image"
            done = workshop.run("write", url, "--to", device, "--md5", "0" * 32, "--size", SIZE)
        finally:
            server.shutdown()
            thread.join()
    assert (done.returncode, Changing.asked) == (11, 3), done.stderr
    assert head(device) == bytes(MIB)
    assert f"{device} is incomplete" in done.stderr
    assert "as it was" not in done.stderr


@pytest.mark.root
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "plain"])
def test_an_image_of_nothing_blanks_nothing(
    workshop: Workshop, device: str, *, packed: bool
) -> None:
    """A build that has failed gives an empty archive: refused, and the medium is as it was."""
    command = workshop.command("write", "-", "--to", device)
    nothing = gzip.compress(b"") if packed else b""
    done = subprocess.run(
        command, input=nothing, capture_output=True, env=environment(), check=False, timeout=60
    )
    assert done.returncode == 13, done.stderr
    assert b"is empty" in done.stderr
    assert head(device) == OLD * MIB


@pytest.mark.root
@pytest.mark.parametrize("stream", ["pipe", "terminal", "closed"])
def test_whoever_listened_and_has_gone_ends_no_write(
    workshop: Workshop, device: str, stream: str
) -> None:
    """The progress goes nowhere, the image arrives, and the exit code says so."""
    image = workshop.folder / "image"
    image.write_bytes(IMAGE)
    command = workshop.command("write", image, "--to", device, *words(), "--json")
    if stream == "closed":
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    ours, theirs = pty.openpty() if stream == "terminal" else os.pipe()
    if stream != "closed":
        os.close(ours)
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=theirs, env=environment(), check=False, timeout=60
    )
    for fileno in (theirs, *([ours] if stream == "closed" else [])):
        os.close(fileno)
    assert done.returncode == 0
    assert Path(device).read_bytes()[: len(IMAGE)] == IMAGE
