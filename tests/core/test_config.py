# SPDX-License-Identifier: MIT
"""Configuration: what is wrong is said with its key and what would be right."""

import dataclasses
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.core.config import Config, parse_board, parse_config
from updater.core.errors import ConfigError

CONFIG = """
[cloud]
host = "broker.example"
product_id = "ABCDE12345"
device_name = "dev_01"
"""
CHECK = "[[health.command]]\nname = 'x'\nargv = ['true']\n"
BOARD = """
[board]
name = "demo"
[[slot]]
bootname = "A"
partlabel = "rootfs-a"
[[slot]]
bootname = "B"
partlabel = "rootfs-b"
"""


@pytest.mark.parametrize("kind", ["", "mcu", "!~", "x" * 64])
def test_a_kind_of_firmware_is_what_an_offer_can_name(kind: str) -> None:
    """Up to the longest one."""
    assert parse_config(f"{CONFIG}fw_type = '{kind}'", "updater.toml").cloud.fw_type == kind


def test_defaults_are_safe() -> None:
    """TLS and read-back are on unless somebody says otherwise."""
    config = parse_config(CONFIG, "updater.toml")
    assert config.cloud.broker_port == 8883
    assert not config.cloud.allow_plaintext
    assert not config.download.allow_plaintext
    assert config.download.read_back
    assert config.health.link
    assert config.cloud.keep_alive_s == 120
    assert config.health.command == ()
    download = config.download
    assert (download.connect_timeout_s, download.stall_timeout_s) == (10.0, 30.0)
    assert (download.attempts, download.buffers * download.buffer_bytes) == (5, 8 << 20)
    assert (download.retry_time_s, download.max_redirects) == (3600.0, 5)
    assert (download.resume, download.decode, download.skip_identical) == (True, True, False)
    assert (download.decoder_memory_bytes, download.bandwidth_bytes_per_s) == (12 << 20, 0)
    assert (download.nice, download.io_priority) == (0, "normal")
    board = parse_board(BOARD, "board.toml")
    assert not board.environment.accept_single_copy
    assert board.boot.bootlimit == 3


BOUNDED = [
    (section.name, row)
    for section in dataclasses.fields(Config)
    for row in dataclasses.fields(get_type_hints(Config)[section.name])
    if row.metadata["low"] is not None
]


@pytest.mark.parametrize(
    ("section", "row"), BOUNDED, ids=[f"{name}.{row.name}" for name, row in BOUNDED]
)
def test_a_bound_itself_is_allowed_and_no_more(
    section: str, row: "dataclasses.Field[object]"
) -> None:
    """What the message names is taken; what lies just beyond is refused with it."""
    low, high = row.metadata["low"], row.metadata["high"]
    text = "" if section == "cloud" else f"[{section}]\n"
    for value in (low, high):
        config = parse_config(f"{CONFIG}{text}{row.name} = {value}", "f")
        assert getattr(getattr(config, section), row.name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(ConfigError, match=f"must be from {low} to {high}, is {value}"):
            parse_config(f"{CONFIG}{text}{row.name} = {value}", "f")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[cloud", "Expected"),
        ("", "cloud is missing"),
        ("cloud = 3", "cloud must be a table, is 3"),
        ("[cloud]\nhost = 'h'", "cloud.product_id is missing: product id"),
        (CONFIG + "prot = 1883", "unknown key cloud.prot; did you mean port?"),
        (CONFIG + "zzzzzz = 1", "unknown key cloud.zzzzzz; known are host"),
        (CONFIG + "port = 70000", "cloud.port must be from 0 to 65535, is 70000"),
        (CONFIG + "auth = 'certificate'", "auth = certificate needs cloud.client_cert_file"),
        ("cloud = {host = 'h', product_id = '', device_name = 'd'}", "product_id must be 1 to"),
        ("cloud = {host = 'h', product_id = 'P', device_name = '+'}", "device_name must be 1 to"),
        ("cloud = {host = 'h', product_id = 'P', device_name = 'a b'}", "no blank, '/', '+'"),
        (CONFIG + "client_key_file = '/k'", "cloud.client_key_file needs cloud.client_cert_file"),
        (CONFIG + "auth = 'psk'\nclient_cert_file = '/c'", "exclude each other"),
        (CONFIG + "auth = 'psk'\nallow_plaintext = true", "cloud.auth = psk need TLS"),
        (CONFIG + "client_cert_file = '/c'\nallow_plaintext = true", "client_cert_file and"),
        (CONFIG + "fw_type = 'm c u'", "cloud.fw_type must be at most 64 characters of printable"),
        (CONFIG + "fw_type = 'mcü'", "ASCII without spaces, is 'mcü'"),
        (CONFIG + f"fw_type = '{'x' * 65}'", "cloud.fw_type must be at most 64 characters"),
        (CONFIG + 'fw_type = "mcu\\n"', "cloud.fw_type must be"),
        (CONFIG + "websocket_path = 'mqtt'", "must begin with a slash and be printable"),
        (CONFIG + "websocket_path = '/a b'", "ASCII without spaces, is '/a b'"),
        (CONFIG + 'websocket_path = "/\\r\\nHost: evil"', "ASCII without spaces, is"),
        (CONFIG + "transport = 'udp'", "cloud.transport must be one of tcp, websocket"),
        (CONFIG + "port = '1883'", "cloud.port must be a int, is '1883'"),
        (CONFIG + "port = true", "cloud.port must be a int, is True"),
        (CONFIG + "auth = 'magic'", "cloud.auth must be one of tencent, certificate, psk"),
        (CONFIG + "[health]\ncommand = 1", "health.command must be a list, is 1"),
        (CONFIG + "[health]\ncommand = [1]", "health.command must be a table, is 1"),
        (CONFIG + "[[health.command]]\nname = 'x'", "health.command.argv is missing"),
        (CONFIG + "[state]\nreboot_command = [1]", "state.reboot_command must be a str, is 1"),
        (CONFIG + "[download]\nbuffer_bytes = 70000", "must be a multiple of 4096"),
        (CONFIG + "[download]\nbuffer_bytes = 67108864\nbuffers = 17", "at most 1073741824 bytes"),
        (
            CONFIG + "[download]\nbandwidth_bytes_per_s = 1023",
            "download.bandwidth_bytes_per_s must be 0 for no limit, or 1024 at least, is 1023",
        ),
        (
            CONFIG + "[download]\nclient_key_file = '/key.pem'",
            "download.client_key_file needs download.client_cert_file",
        ),
        (
            CONFIG + "[download]\nio_priority = '8'",
            "download.io_priority must be one of normal, 0, 1, 2, 3, 4, 5, 6, 7, idle, is '8'",
        ),
        (CONFIG + "[download]\nio_priority = 3", "download.io_priority must be a str, is 3"),
        (CONFIG + "[state]\nreboot_command = []", "argv or state.reboot_command is empty"),
        (CONFIG + "[[health.command]]\nname = 'x'\nargv = []", "health.command.argv or"),
        (CONFIG + CHECK + CHECK, "needs a name of its own, and none is 'link'; they are ['x',"),
        (CONFIG + CHECK.replace("'x'", "'link'"), "none is 'link'; they are ['link']"),
        (
            CONFIG + "[download]\nbuffer_bytes = 1",
            "download.buffer_bytes must be from 65536 to 67108864, is 1",
        ),
        (CONFIG + "[download]\nbackoff_s = 1" + "0" * 400, "backoff_s must be from 0 to 3600"),
        (CONFIG + "[download]\nbackoff_s = nan", "backoff_s must be from 0 to 3600, is nan"),
        (CONFIG + "[download]\nbackoff_s = true", "backoff_s must be a float, is True"),
        ("port = 1" + "0" * 5000, "integer string conversion"),
        ("x = " + "[" * 5000, "recursion"),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    """The sentence has the file, the key and what is allowed."""
    with pytest.raises(ConfigError, match=r"^updater\.toml: ") as caught:
        parse_config(text, "updater.toml")
    assert said in str(caught.value)


def test_the_least_bandwidth_and_a_certificate_without_a_key_are_taken() -> None:
    """The key may stand in the certificate's file."""
    text = CONFIG + "[download]\nbandwidth_bytes_per_s = 1024\nclient_cert_file = '/c.pem'"
    download = parse_config(text, "f").download
    assert (download.bandwidth_bytes_per_s, download.client_cert_file) == (1024, "/c.pem")


def test_commands_and_whole_numbers_are_taken() -> None:
    """A number of seconds may be written without a point."""
    text = CONFIG + "[[health.command]]\nname = 'web'\nargv = ['true', 'x']\ntimeout_s = 3"
    (command,) = parse_config(text, "updater.toml").health.command
    assert (command.argv, command.timeout_s) == (("true", "x"), 3.0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('bootname = "B"', 'bootname = "A"', "two slots of different names"),
        ('partlabel = "rootfs-b"', "", "slot B needs exactly one of"),
        ('partlabel = "rootfs-b"', 'partlabel = "x"\npartuuid = "y"', "slot B needs exactly one"),
        ("[board]", "[boot]\nbootlimit = 10\n[board]", "boot.bootlimit must be from 1 to 9"),
        ("[board]", "[boot]\ncounter = 'script'\n[board]", "boot.counter must be one of u-boot"),
        ('bootname = "B"', 'bootname = ""', "slot.bootname must be letters"),
        ('bootname = "B"', 'bootname = "B 2"', "slot.bootname must be letters"),
        ('bootname = "B"', 'bootname = "-n"', "slot.bootname must be letters"),
    ],
)
def test_a_slot_table_that_makes_no_sense_is_refused(old: str, new: str, said: str) -> None:
    """A pair of slots, each named once and found in one way."""
    with pytest.raises(ConfigError, match=said):
        parse_board(BOARD.replace(old, new), "board.toml")


@given(st.text(max_size=200))
def test_any_text_is_answered(text: str) -> None:
    """Either a configuration or one sentence; never another error."""
    for parse in (parse_config, parse_board):
        with pytest.raises(ConfigError):
            parse(text, "file")


@pytest.mark.parametrize(
    ("more", "port"),
    [
        ("", 8883),
        ("allow_plaintext = true", 1883),
        ("transport = 'websocket'", 443),
        ("transport = 'websocket'\nallow_plaintext = true", 80),
        ("transport = 'websocket'\nport = 8084", 8084),
    ],
)
def test_each_transport_has_its_port(more: str, port: int) -> None:
    """A port that nobody has named is the one that the cloud has for it (PROTOCOL.md, 2.1)."""
    assert parse_config(CONFIG + more, "updater.toml").cloud.broker_port == port
