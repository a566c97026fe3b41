# SPDX-License-Identifier: MIT
"""What TLS must not lead to, under AddressSanitizer: plaintext, a prompt, another protocol."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import HostileServer
from sanitized import IMAGE, Slot, Status
from scripts import redirect, whole
from test_https import certificate, command, issue

PROMPT_S = 10  # for an engine that asks nobody: it takes a fraction of a second


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("strict")


@pytest.fixture(scope="module")
def secure(folder: Path) -> Iterator[HostileServer]:
    """A server that would rather speak HTTP/2."""
    context = certificate(folder, "good", "127.0.0.1")
    context.set_alpn_protocols(["h2", "http/1.1"])
    with HostileServer(context) as serving:
        yield serving


def test_https_is_not_left_again_wherever_it_began(
    slot: Slot, secure: HostileServer, server: HostileServer, folder: Path
) -> None:
    """From http to https and back to http: the last request is not sent."""
    end = server.url("/end", whole())
    source = server.url("/begin", redirect(secure.url("/middle", redirect(end))))
    server.requests.clear()
    outcome = slot.fill(source=source, ca_file=folder / "good.pem", attempts=3)
    assert (outcome.status, outcome.message) == (
        Status.SCHEME, "a redirect leads from https to http",
    )  # fmt: skip
    assert [request.split(b" ")[1] for request in server.requests] == [b"/begin"]
    assert slot.is_untouched()


def test_http_leads_to_https_and_further(
    slot: Slot, secure: HostileServer, server: HostileServer, folder: Path
) -> None:
    """As long as it stays there."""
    middle = secure.url("/middle", redirect(secure.url("/end", whole())))
    outcome = slot.fill(source=server.url("/begin", redirect(middle)), ca_file=folder / "good.pem")
    assert outcome.status == Status.DONE
    assert slot.is_whole()


def test_the_protocol_is_the_one_that_is_tested(
    slot: Slot, secure: HostileServer, folder: Path
) -> None:
    """HTTP/1.1, also from a server that offers HTTP/2: for one object it would win nothing."""
    outcome = slot.fill(source=secure.url("/image", whole()), ca_file=folder / "good.pem")
    assert outcome.status == Status.DONE
    assert secure.requests[-1].startswith(b"GET /image HTTP/1.1\r\n")


def test_nobody_is_asked_for_a_pass_phrase(slot: Slot, secure: HostileServer, folder: Path) -> None:
    """A key that needs one cannot be used: at a terminal, too, the engine ends and says so."""
    issue(folder, "client", "127.0.0.1")
    command(folder, "openssl ec -in client.key -aes256 -passout pass:word -out locked.key")
    words = slot._words(
        IMAGE, source=secure.url("/image", whole()), ca_file=folder / "good.pem",
        client_cert=folder / "client.pem", client_key=folder / "locked.key",
    )  # fmt: skip
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            ["setsid", "--ctty", "setarch", "--addr-no-randomize", str(slot._program), *words],
            stdin=theirs, capture_output=True, text=True, timeout=PROMPT_S, check=True,
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    assert "client certificate or its key cannot be used" in done.stdout
    assert slot.is_untouched()
