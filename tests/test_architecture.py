# SPDX-License-Identifier: MIT
"""The architecture's rules, held by reading imports: no reviewer has to remember them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "updater"
MODULES = sorted(PACKAGE.rglob("*.py"))
CORE_MAY_NOT = {
    "os", "socket", "threading", "time", "subprocess", "select", "sqlite3", "ssl", "random",
    "secrets", "fcntl", "mmap", "pathlib", "paho", "pyudev", "cffi", "logging",
}  # fmt: skip
ONE_IMPORTER = {
    "paho": "edge/mqttclient.py",
    "pyudev": "edge/udev.py",
    "sqlite3": "edge/database.py",
    "subprocess": None,
}


FAMILIES = {  # one outside thing in several files
    "envstore": {"envmedia"},
    "health": {"commands"},
    "journal": {"database"},
    "mqtt": {"dial", "mqttclient", "stream", "tls"},
    "mqttclient": {"stream", "tls"},
    "dial": {"lookup", "stream", "tls", "websocketstream"},
    "websocketstream": {"stream", "tls"},
    "stream": {"tls"},
    "tls": {"authorities"},
    "registration": {"authorities"},
}


def imports(path: Path) -> Iterator[str]:
    """Yield every module that *path* imports, dotted."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name(path: Path) -> str:
    """Return *path* as it is written in the rules."""
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", [p for p in MODULES if "core" in p.parts], ids=name)
def test_core_touches_nothing_outside(path: Path) -> None:
    """Core decides over values: no clock, no file, no socket, no thread, no third party."""
    roots = {module.split(".")[0] for module in imports(path)}
    assert not roots & CORE_MAY_NOT
    assert not [m for m in imports(path) if m.startswith("updater.") and ".core" not in m]


@pytest.mark.parametrize("path", [p for p in MODULES if "edge" in p.parts], ids=name)
def test_edges_do_not_know_each_other(path: Path) -> None:
    """Each edge module touches one outside thing and imports core alone, or its own family."""
    ours = {m.split(".")[2] for m in imports(path) if m.startswith("updater.edge.")}
    assert ours <= FAMILIES.get(path.stem, set())


@pytest.mark.parametrize("library", ["paho", "pyudev", "sqlite3"])
def test_each_library_has_one_importer(library: str) -> None:
    """A third-party library, or the database, is replaced by changing one module."""
    users = {name(p) for p in MODULES if library in {m.split(".")[0] for m in imports(p)}}
    assert users <= {ONE_IMPORTER[library]}


def test_the_native_module_is_behind_two_edges() -> None:
    """Only the edges of the pipeline and of the cipher cross into C."""
    users = {name(p) for p in MODULES if any("_native" in m for m in imports(p))}
    assert users <= {"edge/aes.py", "edge/pipeline.py"}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_file_says_why_it_exists(path: Path) -> None:
    """A licence line first, then a docstring; and no file has outgrown its room."""
    text = path.read_text()
    assert text.startswith("# SPDX-License-Identifier: MIT\n")
    assert ast.get_docstring(ast.parse(text))
    assert text.count("\n") <= 360


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_function_is_longer_than_a_screen(path: Path) -> None:
    """Sixty lines at most."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name
