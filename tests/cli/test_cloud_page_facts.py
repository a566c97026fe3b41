# SPDX-License-Identifier: MIT
"""What docs/cloud.md names exists: keys, sections, commands, sentences, topics, hosts."""

import argparse
import ast
import configparser
import dataclasses
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from cloudpage import Block, block, blocks, prose, rows

from updater import cli
from updater.core import messages, refusals
from updater.core.cloudconfig import CloudConfig
from updater.core.config import (
    Board,
    BoardName,
    Config,
    OffersConfig,
    parse_config,
)
from updater.core.credentials import topics
from updater.core.errors import ResultCode, SpaceError
from updater.core.gateway import GATEWAY_URL

PACKAGE = Path(cli.__file__).parent
CODE = re.compile(r"`([^`\n]+)`")
MESSAGES = Path(messages.__file__).read_text()
IN_PARTS = (  # sentences that the source has in pieces
    str(SpaceError(33554433, 33554432, "slot B")),
    *(str(refusals.certificate(code, "", host="h", clock="now")) for code in (9, 10, 20, 62)),
)


def keys_of(kind: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the section and the name of every key of *kind*, and each section with an empty one."""
    hints = get_type_hints(kind)
    yield name, ""
    for row in dataclasses.fields(kind):
        hint = hints[row.name]
        item = get_args(hint)[0] if get_origin(hint) is tuple else hint
        if dataclasses.is_dataclass(item):
            yield from keys_of(item, f"{name}.{row.name}".lstrip("."))
        else:
            yield name, row.name


KEYS = {*keys_of(Config), *keys_of(Board)}


@pytest.mark.parametrize("each", blocks("toml"), ids=lambda each: each.heading)
def test_every_settings_file_is_taken(each: Block) -> None:
    """The program reads each of the page's settings, whole, without a complaint."""
    assert parse_config(each.text, each.heading).cloud.device_name


def test_every_key_exists() -> None:
    """What looks like a key is one, or a key of the messages."""
    named = {
        word
        for code in CODE.findall(prose())
        for word in re.findall(r"^([a-z0-9]+(?:_[a-z0-9]+)+)(?: = .*)?$", code)
    }
    assert len(named) > 20
    known = {key for _section, key in KEYS}
    assert not [word for word in named if word not in known and f'"{word}"' not in MESSAGES]


def test_every_section_exists() -> None:
    """What looks like a section of a file is one."""
    named = {code[1:-1] for code in CODE.findall(prose()) if re.fullmatch(r"\[[a-z.]+\]", code)}
    assert named
    assert named <= {section for section, _key in KEYS}


def test_every_command_exists() -> None:
    """Each `updater …` that the page has people type is in the grammar."""
    parser = cli._parser()
    typed = {code.removeprefix("updater ") for code in CODE.findall(prose())
             if code.startswith("updater ")}  # fmt: skip
    assert len(typed) > 5
    for words in typed:
        assert isinstance(parser.parse_args(words.split()), argparse.Namespace)


def test_every_way_is_one() -> None:
    """The table of ways names every `auth`, and no other."""
    [help_text] = [each.metadata for each in dataclasses.fields(CloudConfig) if each.name == "auth"]
    named = {code for row in rows("you need") for code in CODE.findall(row[1])}
    assert named == set(help_text["choices"])


@pytest.mark.parametrize(
    ("words", "kind", "key", "default"),
    [
        ("`keep_alive_s` is 120;", CloudConfig, "keep_alive_s", 120),
        ("`signature_lifetime_s`, an hour.", CloudConfig, "signature_lifetime_s", 3600),
        ("The path is `/mqtt`", CloudConfig, "websocket_path", "/mqtt"),
        ("`tencent` (the default)", CloudConfig, "auth", "tencent"),
        ("tried again after 1 h, then 2 h;", OffersConfig, "retry_wait_s", 3600.0),
        ("`/etc/updater/version`", BoardName, "version_file", "/etc/updater/version"),
    ],
)
def test_every_default_is_the_default(words: str, kind: Any, key: str, default: object) -> None:
    """Where the page tells what holds unless it is set, it does."""
    assert words in prose()
    assert {each.name: each.default for each in dataclasses.fields(kind)}[key] == default


# --- sentences -----------------------------------------------------------------------------------


@cache
def templates() -> tuple[str, ...]:
    """Return every text of the program, with … for what differs."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if id(node) in docs:
                continue
            if isinstance(node, ast.JoinedStr):
                parts = (str(x.value) if isinstance(x, ast.Constant) else "…" for x in node.values)
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"\{\w+\}|%[.\d]*[dsrf]", "…", node.value))
    return (*found, *IN_PARTS)


def can_be_said(sentence: str) -> bool:
    pattern = re.compile(".*".join(map(re.escape, sentence.split("…"))))
    return any(pattern.search(each) for each in templates())


@pytest.mark.parametrize(
    "sentence", sorted({code for row in rows("the log says") for code in CODE.findall(row[0])})
)
def test_every_sentence_can_be_said(sentence: str) -> None:
    """Whoever looks for a sentence of the page in the log, or the other way round, finds it."""
    assert can_be_said(sentence), sentence


def test_a_sentence_that_nobody_says_is_noticed() -> None:
    """The test above can fail."""
    assert not can_be_said("the broker is on … holiday")


def test_every_code_is_one() -> None:
    """The table of failed updates has the five codes."""
    assert [int(row[0]) for row in rows("code")] == [-1, -2, -3, -4, -5]
    assert {int(row[0]) for row in rows("code")} == set(ResultCode) - {ResultCode.OK}


# --- the wire ------------------------------------------------------------------------------------


def test_the_topics_are_those_of_the_program() -> None:
    """The page tells both topics as they are subscribed and published to."""
    its = topics("PRODUCT_ID", "DEVICE_NAME")
    assert {its.update, its.report} <= set(CODE.findall(prose()))


def test_every_host_is_known() -> None:
    """The table of hosts is that of the configuration, and the first gateway is the default."""
    [told] = [each.metadata["help"] for each in dataclasses.fields(CloudConfig)
              if each.name == "host"]  # fmt: skip
    hosts = [CODE.findall(row[1])[0] for row in rows("Tencent's region")]
    assert len(hosts) == 5
    assert {host.removeprefix("PRODUCT_ID") for host in hosts} == set(
        re.findall(r"`(\..*?)`", told)
    )
    [[_region, gateway], *_others] = rows("the product's region")
    assert gateway == f"`{GATEWAY_URL}`"


def test_the_unit_gives_what_the_settings_ask_for() -> None:
    """The credential's name is that of `secret_file`, and has no slash."""
    unit = configparser.ConfigParser()
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(block("ini", "Where secrets are").text)
    name, _, path = unit["Service"]["LoadCredential"].partition(":")
    settings = parse_config(block("toml", "Where secrets are").text, "page")
    assert settings.cloud.secret_file == name
    assert path.startswith("/data/updater/")
