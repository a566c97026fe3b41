# SPDX-License-Identifier: MIT
"""Credentials from real files; and the secret is nowhere but in the password."""

import base64
import hashlib
import hmac
import logging
import re
import time
import traceback
from pathlib import Path

import pytest

from updater.core.cloudconfig import CloudConfig
from updater.core.config import Config, DownloadConfig
from updater.core.errors import ConfigError
from updater.edge.secret import CredentialSource, warn_of_open_files

SECRET = base64.b64encode(b"very secret key!").decode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def source(**more: object) -> CredentialSource:
    known = {"host": "h", "product_id": "PRODUCT001", "device_name": "board-1"}
    return CredentialSource(CloudConfig(**{**known, **more}))


def test_a_signature_is_new_each_time(file: Path) -> None:
    """User name and password are the cloud's form, valid for an hour, and no two are the same."""
    make = source(secret_file=str(file))
    one, two = make(), make()
    for each in (one, two):
        assert each.client_id == "PRODUCT001board-1"
        assert each.username is not None
        pattern = r"PRODUCT001board-1;12010126;[A-Za-z0-9]{5};(\d+)"
        found = re.fullmatch(pattern, each.username)
        assert found
        assert 3590 <= int(found[1]) - time.time() <= 3600
        token = hmac.new(b"very secret key!", each.username.encode(), hashlib.sha256).hexdigest()
        assert each.password == f"{token};hmacsha256"
    assert one.username != two.username


def test_a_clock_that_was_never_set_signs_without_expiry(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 1970 an hour from now is long past: the signature then has no end."""
    monkeypatch.setattr(time, "time", lambda: 12.0)
    username = source(secret_file=str(file))().username
    assert username is not None
    assert username.endswith(";2147483647")


def test_the_file_is_read_each_time(file: Path) -> None:
    """A secret that is replaced counts from the next connection on."""
    make = source(auth="password", username="u", password_file=str(file))
    assert make().password == SECRET
    file.write_text("  another one \n")
    assert (make().username, make().password) == ("u", "another one")


def test_without_a_login_there_is_no_secret() -> None:
    """Auth "none" names the device and nothing else, and reads no file."""
    made = source(auth="none", secret_file="/no/such/file")()
    assert (made.client_id, made.username, made.password) == ("PRODUCT001board-1", None, None)


def whole_story(error: BaseException) -> str:
    """Everything that a log, a traceback or a debugger could show of *error*."""
    parts = traceback.format_exception(error)
    link: BaseException | None = error
    while link is not None:
        parts += [str(link), repr(link), repr(link.args), repr(vars(link))]
        link = link.__cause__ or link.__context__
    return "".join(parts)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "holds no secret"),
        (b" \n\n", "holds no secret"),
        (b"tops3cret-\xe4", "holds no secret"),
        (b"tops3cret-" * 500, "holds no secret"),
        (b"tops3cret-not-base64!", "not base64"),
        (b"tops3cret", "not base64"),
    ],
)
def test_a_secret_that_is_none_is_told_without_it(
    file: Path, caplog: pytest.LogCaptureFixture, content: bytes | None, words: str
) -> None:
    """The error names the file or the rule, never a byte of what was read."""
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigError, match=words) as caught:
        source(secret_file=str(file))()
    assert "tops3cret" not in whole_story(caught.value) + caplog.text
    assert "0xe4" not in whole_story(caught.value)


def everything(folder: Path, **names: str) -> Config:
    """Return a configuration whose every secret is a file of its own in *folder*."""
    files = {name: str(folder / name) for name in FILES}
    cloud = CloudConfig(
        host="h", product_id="p", device_name="d", client_cert_file=f"{folder}/cert",
        **{**files, **names},
    )  # fmt: skip
    download = DownloadConfig(client_cert_file=f"{folder}/cert", client_key_file=f"{folder}/key")
    return Config(cloud=cloud, download=download)


FILES = ("secret_file", "product_secret_file", "password_file", "client_key_file")


@pytest.mark.parametrize("name", [*FILES, "key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_secret_for_all_to_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, mode: int
) -> None:
    """Once, with the file's name; a good mode is not mentioned, nor what is no secret."""
    settings = everything(tmp_path)
    for each in (*FILES, "key", "cert"):
        (tmp_path / each).touch(0o644 if each == "cert" else 0o600)
    warn_of_open_files(settings)
    assert not caplog.records
    (tmp_path / name).chmod(mode)
    for other in {*FILES, "key"} - {name}:
        (tmp_path / other).unlink()
    warn_of_open_files(settings)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"{tmp_path}/{name} holds a secret and can be read by others" in caplog.text


def test_a_certificate_with_its_key_is_a_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One file for both is looked at like a key's; a credential of systemd's is not."""
    (tmp_path / "cert").touch(0o644)
    warn_of_open_files(everything(tmp_path, client_key_file="key", secret_file="secret"))
    assert not caplog.records
    warn_of_open_files(everything(tmp_path, client_key_file=""))
    assert f"{tmp_path}/cert holds a secret" in caplog.text


def test_credentials_show_no_password(file: Path) -> None:
    """Logged, printed or in an assertion, the password stays out of sight."""
    password = source(auth="password", username="u", password_file=str(file))
    assert SECRET not in repr(password()) + str(password()) + repr(password) + repr(vars(password))
    signed = source(secret_file=str(file))()
    assert signed.password is not None
    assert signed.password.split(";")[0] not in repr(signed)


def test_a_certificate_needs_no_secret_and_a_psk_is_one(file: Path) -> None:
    """Both log in with the cloud's form of user name and no password; the key shows nowhere."""
    for auth, psk in (("certificate", None), ("psk", b"very secret key!")):
        made = source(auth=auth, secret_file=str(file) if psk else "/no/such/file")()
        assert made.username is not None
        assert re.fullmatch(r"PRODUCT001board-1;12010126;[A-Za-z0-9]{5};\d+", made.username)
        assert (made.client_id, made.password, made.psk) == ("PRODUCT001board-1", None, psk)
        assert "very secret" not in repr(made) + str(made)


@pytest.mark.parametrize(("lifetime_s", "expiry"), [(60, 60), (0, None), (31_536_000, 31_536_000)])
def test_the_signature_lives_as_long_as_configured(
    file: Path, lifetime_s: int, expiry: int | None
) -> None:
    """Seconds from now, or for ever where the clock cannot be trusted (PROTOCOL.md, pitfall 26)."""
    username = source(secret_file=str(file), signature_lifetime_s=lifetime_s)().username
    assert username is not None
    expires_s = int(username.rsplit(";", 1)[1])
    if expiry is None:
        assert expires_s == 2147483647
    else:
        assert abs(expires_s - time.time() - expiry) < 10


def test_no_signature_outlives_the_clouds_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock near the end of 32 bits yields the last second that the cloud knows."""
    monkeypatch.setattr(time, "time", lambda: 2147483000.0)
    username = source(secret_file=str(file))().username
    assert username is not None
    assert username.endswith(";2147483647")


def test_a_secret_may_be_a_systemd_credential(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A name without a slash is looked for where systemd put it, whose modes are its own affair."""
    make = source(auth="password", username="u", password_file=file.name)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match="systemd credential, and the service was given none"):
        make()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    file.chmod(0o440)
    assert make().password == SECRET
    assert not caplog.records
