# SPDX-License-Identifier: MIT
"""The documentation is true where that can be checked: pictures, links, commands."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["architecture.svg", "session.svg", "conversation.svg"])
def test_pictures_are_what_the_sources_say(name: str) -> None:
    """A new module or transition is in the picture, or this fails: run docs/draw.py."""
    assert (ROOT / "docs" / name).read_text() == script("draw").PICTURES[name]()


def test_every_key_is_described() -> None:
    """The page of keys is what the configuration's rows say, or this fails: run docs/tables.py."""
    assert (ROOT / "docs" / "configuration.md").read_text() == script("tables").page()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link and picture of a page exists."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def anchor(heading: str) -> str:
    """Return what a link to *heading* names, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_headings_lead_somewhere(page: Path) -> None:
    """Every heading that a link of a page names is in the page that it leads to."""
    for target, name in re.findall(r"\]\(([^):]*)#([^)]+)\)", page.read_text()):
        text = (page.parent / target if target else page).read_text()
        assert name in {anchor(each) for each in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    """Every `make` target that a page names is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= targets
