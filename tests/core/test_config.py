# SPDX-License-Identifier: MIT
"""Configuration: what is wrong is said with its key and what would be right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.core.config import parse_board, parse_config
from updater.core.errors import ConfigError

CONFIG = """
[cloud]
host = "broker.example"
product_id = "ABCDE12345"
device_name = "dev_01"
"""
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


def test_defaults_are_safe() -> None:
    """TLS and read-back are on unless somebody says otherwise."""
    config = parse_config(CONFIG, "updater.toml")
    assert config.cloud.port == 8883
    assert not config.cloud.allow_plaintext
    assert not config.download.allow_plaintext
    assert config.download.read_back
    assert config.health.link
    assert not parse_board(BOARD, "board.toml").environment.accept_single_copy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[cloud", "Expected"),
        ("", "cloud is missing"),
        ("cloud = 3", "cloud must be a table, is 3"),
        ("[cloud]\nhost = 'h'", "cloud.product_id is missing: product id"),
        (CONFIG + "prot = 1883", "unknown key cloud.prot; did you mean port?"),
        (CONFIG + "zzzzzz = 1", "unknown key cloud.zzzzzz; known are host"),
        (CONFIG + "port = 70000", "cloud.port must be from 1 to 65535, is 70000"),
        (CONFIG + "port = '1883'", "cloud.port must be a int, is '1883'"),
        (CONFIG + "port = true", "cloud.port must be a int, is True"),
        (CONFIG + "auth = 'magic'", "cloud.auth must be one of tencent, password, none"),
        (CONFIG + "[health]\ncommand = 1", "health.command must be a list, is 1"),
        (CONFIG + "[health]\ncommand = [1]", "health.command must be a table, is 1"),
        (CONFIG + "[[health.command]]\nname = 'x'", "health.command.argv is missing"),
        (CONFIG + "[state]\nreboot_command = [1]", "state.reboot_command must be a str, is 1"),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    """The sentence has the file, the key and what is allowed."""
    with pytest.raises(ConfigError, match=r"^updater\.toml: ") as caught:
        parse_config(text, "updater.toml")
    assert said in str(caught.value)


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
