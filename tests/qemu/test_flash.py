# SPDX-License-Identifier: MIT
"""The environment in NOR flash, on a real MTD device: ours and U-Boot's tools read each other."""

import subprocess
from collections.abc import Iterator

import pytest
from sim.rig import Rig

from board.emulator.image import Image

CONFIG = "/dev/mtd0 0x4000000 0x4000 0x40000\n/dev/mtd0 0x4040000 0x4000 0x40000\n"

PREAMBLE = """\
import sys
sys.path.insert(0, "/usr/lib/python3/dist-packages")
from updater.core.config import EnvironmentConfig
from updater.core import bootenv, fwenvconfig
from updater.edge.envmedia import MtdMedium
from updater.edge.envstore import EnvironmentStore
places = fwenvconfig.parse(open("/tmp/fw.config").read(), "")
store = EnvironmentStore(EnvironmentConfig(config="/tmp/fw.config"))
"""
FIRST = (
    PREAMBLE
    + """\
for place in places:
    MtdMedium(place).write(open("/tmp/first.bin", "rb").read())
print(MtdMedium(places[0]).flags.name, store.read()["greeting"])
"""
)
STORE = (
    PREAMBLE
    + """\
for number in range(3):
    store.store({"greeting": f"ours {number}", "empty": None})
    copies = [bootenv.parse(MtdMedium(place).read(), bootenv.Flags.BOOLEAN) for place in places]
    print([copy.flag for copy in copies], all(copy.is_valid for copy in copies))
"""
)
READ = (
    PREAMBLE
    + """\
print(store.read()["greeting"])
"""
)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, old: Image) -> Iterator[Rig]:
    """Return a desk whose board has a valid environment in both copies of its flash."""
    folder = tmp_path_factory.mktemp("flash")
    made = subprocess.run(
        ["mkenvimage", "-r", "-s", "0x4000", "-o", "-", "-"],
        input=b"greeting=from the factory\n",
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    files = {"first.py": FIRST, "store.py": STORE, "read.py": READ, "fw.config": CONFIG}
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "first.bin").write_bytes(made)
    with Rig(folder, old) as rig:
        rig.web.put({name: folder / name for name in [*files, "first.bin"]})
        rig.board.power_on()
        rig.board.wait_for_shell()
        for name in [*files, "first.bin"]:
            rig.board.shell(f"wget -q -O /tmp/{name} http://10.0.2.2:{rig.web.port}/{name}")
        yield rig
        rig.show()


def test_the_copies_have_flags_and_not_serial_numbers(rig: Rig) -> None:
    """The kernel says that it is NOR flash, and the factory's copy is read back."""
    assert "BOOLEAN from the factory" in rig.board.shell("python3.11 /tmp/first.py")


def test_a_store_of_ours_is_read_by_the_tools(rig: Rig) -> None:
    """The flags change places with each store, both copies stay whole, the newest is read."""
    said = rig.board.shell("python3.11 /tmp/store.py")
    flags = [line for line in said.splitlines() if line.startswith("[")]
    assert flags == ["[0, 1] True", "[1, 0] True", "[0, 1] True"]
    assert "greeting=ours 2" in rig.board.shell("fw_printenv -c /tmp/fw.config greeting")


def test_copies_in_one_erase_block_are_not_stored(rig: Rig) -> None:
    """Where fw_env.config leaves the erase block to the device, the device is asked."""
    shared = "/dev/mtd0 0x4000000 0x4000\\n/dev/mtd0 0x4004000 0x4000\\n"
    rig.board.shell(f"cp /tmp/fw.config /tmp/kept; printf '{shared}' >/tmp/fw.config")
    said = rig.board.shell("python3.11 /tmp/store.py 2>&1 | tail -n 1; mv /tmp/kept /tmp/fw.config")
    assert "one block of 262144 bytes" in said


def test_a_store_of_the_tools_is_read_by_us(rig: Rig) -> None:
    """fw_setenv's copy is the one that we read."""
    rig.board.shell("fw_setenv -c /tmp/fw.config greeting theirs")
    assert "theirs" in rig.board.shell("python3.11 /tmp/read.py")
