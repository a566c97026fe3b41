# SPDX-License-Identifier: MIT
"""Where firmware comes from besides a server: standard input, a file, and a proxy in between."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import HostileServer, answer
from sanitized import BUFFER, IMAGE, MIB, Slot, Status
from scripts import AGAIN, ETAG, in_turn, rest, whole
from test_https import certificate


@contextlib.contextmanager
def standard_input(fd: int) -> Iterator[None]:
    """Let what is started meanwhile inherit *fd* as its standard input."""
    kept = os.dup(0)
    os.dup2(fd, 0)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


@contextlib.contextmanager
def piped(image: bytes, piece: int = 65536, *, stays_open: bool = False) -> Iterator[None]:
    """Feed *image* to standard input in pieces, and close it unless it *stays_open*."""
    out, into = os.pipe()
    over = threading.Event()

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError):
            for at in range(0, len(image), piece):
                os.write(into, image[at : at + piece])
        if stays_open:
            over.wait(10)
        os.close(into)

    thread = threading.Thread(target=feed)
    with standard_input(out):
        os.close(out)
        thread.start()
        try:
            yield
        finally:
            over.set()
            os.close(0)  # a writer that nobody reads from any more ends
            thread.join()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


@pytest.mark.parametrize("piece", [4095, 65536])
@pytest.mark.parametrize("size", [0, len(IMAGE)])
def test_an_image_may_come_by_standard_input(slot: Slot, piece: int, size: int) -> None:
    """In pieces of any size, its length announced or not."""
    with piped(IMAGE, piece):
        outcome = slot.fill(source="-", size=size)
    assert (outcome.status, outcome.message) == (Status.DONE, "")
    assert slot.is_whole()


def test_standard_input_may_be_a_file(slot: Slot) -> None:
    """As with `< image`."""
    with slot.source.open("rb") as image, standard_input(image.fileno()):
        assert slot.fill(source="-", size=0).status == Status.DONE
    assert slot.is_whole()


WRONG: dict[str, tuple[bytes, Status]] = {
    "a byte less": (IMAGE[:-1], Status.LENGTH),
    "a byte more": (IMAGE + b"x", Status.LENGTH),
    "nothing": (b"", Status.LENGTH),
    "more than the slot holds": (IMAGE * 2, Status.LENGTH),
    "another byte": (IMAGE[:-1] + b"\0", Status.DIGEST),
}


@pytest.mark.parametrize(("image", "expected"), WRONG.values(), ids=WRONG.keys())
def test_standard_input_must_be_what_was_announced(
    slot: Slot, image: bytes, expected: Status
) -> None:
    """To the byte, and what was written of another one cannot boot."""
    with piped(image):
        outcome = slot.fill(source="-")
    assert (outcome.status, outcome.message) == (expected, outcome.message)
    assert slot.is_blank() or slot.is_untouched()


def test_standard_input_of_unknown_length_must_fit(slot: Slot) -> None:
    """The slot's end is the limit, and what stands before it cannot boot."""
    image = IMAGE * 2
    with piped(image):
        outcome = slot.fill(image, source="-", size=0)
    assert outcome.status == Status.SPACE
    assert slot.is_blank()


def test_an_empty_standard_input_is_no_image(slot: Slot) -> None:
    """Nothing is blanked for a command before the pipe that has failed."""
    with piped(b""):
        assert slot.fill(source="-", size=0, md5=None).status == Status.LENGTH
    assert slot.is_untouched()


@pytest.mark.parametrize("length", [0, 5, BUFFER + 5])
def test_a_cancel_does_not_wait_for_standard_input(slot: Slot, length: int) -> None:
    """Whoever feeds it may take all the time in the world."""
    with piped(IMAGE[:length], stays_open=True):
        outcome = slot.fill(source="-", closes_at_ms=300)
    assert outcome.status == Status.MORE
    assert outcome.facts["close_ms"] < 500


def test_standard_input_is_read_from_its_front_after_a_cut(tmp_path: Path, engine: Path) -> None:
    """A checkpoint is of no use to a source that gives every byte once."""
    slot = Slot(tmp_path, engine, 10 * MIB)
    image = (IMAGE * 6)[: 9 * MIB]
    slot.source.write_bytes(image)
    checkpoint = tmp_path / "checkpoint"
    assert slot.die(image, "write:34:die", checkpoint=checkpoint)
    with piped(image):
        outcome = slot.fill(image, source="-", checkpoint=checkpoint)
    assert (outcome.status, outcome.facts["resumed"]) == (Status.DONE, 0)
    assert slot.is_whole(image)


LOCAL: dict[str, Status] = {
    "nothing": Status.OPEN,
    "folder": Status.OPEN,
    "pipe": Status.OPEN,
    "/dev/zero": Status.OPEN,
    "short": Status.LENGTH,
    "long": Status.LENGTH,
    "empty": Status.LENGTH,
}


@pytest.mark.parametrize(("name", "expected"), LOCAL.items())
def test_what_is_no_file_of_that_length_is_refused(
    slot: Slot, tmp_path: Path, name: str, expected: Status
) -> None:
    """Before anything is blanked."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "short").write_bytes(IMAGE[:-1])
    (tmp_path / "long").write_bytes(IMAGE + b"x")
    (tmp_path / "empty").write_bytes(b"")
    assert slot.fill(source=tmp_path / name).status == expected
    assert slot.is_untouched()


def test_a_file_knows_its_length(slot: Slot) -> None:
    """Nobody has to announce it."""
    outcome = slot.fill(size=0)
    assert (outcome.status, outcome.facts["size"]) == (Status.DONE, len(IMAGE))


# --- proxies --------------------------------------------------------------------------------------


class Proxy:
    """A proxy that passes on to wherever it is told, for plain requests and for CONNECT."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.lines: list[str] = []
        self.answer = b"HTTP/1.1 200 Go on\r\n\r\n"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                client.settimeout(5)
                self._threads.append(threading.Thread(target=self._serve, args=(client,)))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += client.recv(65536)
            line = request.split(b"\r\n", 1)[0].decode()
            self.lines.append(line)
            method, target, _ = line.split(" ")
            host, _, port = target.removeprefix("http://").partition("/")[0].partition(":")
            if method == "CONNECT":
                client.sendall(self.answer)
                if b" 200 " not in self.answer:
                    return
                request = b""
            else:
                request = request.replace(f"http://{host}:{port}".encode(), b"", 1)
            with socket.create_connection((host, int(port))) as server:
                server.sendall(request)
                back = threading.Thread(target=self._pass_on, args=(server, client))
                back.start()
                self._pass_on(client, server)
                back.join()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    proxy = Proxy()
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("https_proxy", proxy.url)
    yield proxy
    proxy.close()


def test_a_proxy_of_the_environment_is_used(
    slot: Slot, server: HostileServer, proxy: Proxy
) -> None:
    """And the rest is asked for through it too."""
    script = in_turn(whole(ETAG, sends=300_000), rest(ETAG))
    outcome = slot.fill(source=server.url("/proxied", script), **AGAIN)
    assert (outcome.status, outcome.facts["retries"]) == (Status.DONE, 1)
    assert slot.is_whole()
    assert len(proxy.lines) == 2
    assert proxy.lines[0].startswith("GET http://127.0.0.1:")


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[HostileServer]:
    with HostileServer(certificate(tmp_path, "good", "127.0.0.1")) as serving:
        yield serving


def test_a_proxy_passes_tls_on_unread(
    slot: Slot, secure: HostileServer, tmp_path: Path, proxy: Proxy
) -> None:
    """By CONNECT: the server's certificate is what counts."""
    source = secure.url("/image", lambda _: answer(IMAGE))
    assert slot.fill(source=source, ca_file=tmp_path / "good.pem").status == Status.DONE
    assert [line.split(" ")[0] for line in proxy.lines] == ["CONNECT"]


@pytest.mark.parametrize("line", ["403 No", "407 Who", "502 Gone"])
def test_a_proxy_that_refuses_is_told(
    slot: Slot, secure: HostileServer, tmp_path: Path, proxy: Proxy, line: str
) -> None:
    """It is no word of the server's, and the slot stays as it is."""
    proxy.answer = f"HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n".encode()
    source = secure.url("/image", lambda _: answer(IMAGE))
    outcome = slot.fill(source=source, ca_file=tmp_path / "good.pem")
    assert outcome.status == Status.TRANSPORT
    assert outcome.message == f"the proxy answered with status {line[:3]}"
    assert secure.requests == []
    assert slot.is_untouched()


def test_no_proxy_is_used_where_none_is_wanted(
    slot: Slot, server: HostileServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """no_proxy names the hosts."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    source = server.url("/direct", lambda _: answer(IMAGE))
    assert slot.fill(source=source).status == Status.DONE
    assert proxy.lines == []
