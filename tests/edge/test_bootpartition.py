# SPDX-License-Identifier: MIT
"""The write protection of eMMC boot partitions, over a fake of sysfs.

No emulated machine here has an eMMC with boot partitions: the attribute is a file, and the device
behind it a loop device.
"""

import os
from pathlib import Path

import pytest

from updater.core.errors import DeviceError
from updater.edge.bootpartition import unprotected

NUMBER = os.makedev(179, 8)


def protect(folder: Path, name: str = "mmcblk0boot0", value: str = "1") -> Path:
    """Make a sysfs in which the device of NUMBER is called *name*, and return its attribute."""
    device = folder / "devices/mmc0/block/mmcblk0" / name
    device.mkdir(parents=True)
    (folder / "dev/block").mkdir(parents=True)
    (folder / "dev/block/179:8").symlink_to(device)
    (device / "force_ro").write_text(f"{value}\n")
    return device / "force_ro"


def test_the_protection_is_lifted_and_restored(tmp_path: Path) -> None:
    """Within the context the kernel would let it be written, and not after it."""
    switch = protect(tmp_path)
    with unprotected(NUMBER, str(tmp_path)):
        assert switch.read_text() == "0"
    assert switch.read_text() == "1"


@pytest.mark.parametrize("error", [DeviceError("no"), KeyboardInterrupt(15)])
def test_the_protection_is_restored_after_a_failure(tmp_path: Path, error: BaseException) -> None:
    """Whatever ends the write, a signal too, which is an exception here."""
    switch = protect(tmp_path)

    def fail() -> None:
        with unprotected(NUMBER, str(tmp_path)):
            raise error

    with pytest.raises(type(error)):
        fail()
    assert switch.read_text() == "1"


def test_what_was_not_protected_stays_so(tmp_path: Path) -> None:
    """Who has lifted the protection himself finds it lifted afterwards."""
    switch = protect(tmp_path, value="0")
    before = switch.stat().st_mtime_ns
    with unprotected(NUMBER, str(tmp_path)):
        pass
    assert switch.read_text() == "0\n"
    assert switch.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["mmcblk0", "mmcblk0p1", "sda", "mmcblk0boot0x", "mmcblk0rpmb"])
def test_any_other_device_is_left_alone(tmp_path: Path, name: str) -> None:
    """A card whose write protection was forced on purpose keeps it."""
    switch = protect(tmp_path, name)
    with unprotected(NUMBER, str(tmp_path)):
        assert switch.read_text() == "1\n"
    with unprotected(0, str(tmp_path)):
        assert switch.read_text() == "1\n"


def test_a_protection_that_stays_is_told(tmp_path: Path) -> None:
    """Nothing is written if the attribute is missing or refuses."""
    switch = protect(tmp_path)
    switch.unlink()
    with (
        pytest.raises(DeviceError, match="force_ro: No such file"),
        unprotected(NUMBER, str(tmp_path)),
    ):
        pytest.fail("not reached")
    switch.symlink_to("/proc/version")  # root may write everything but this
    with (
        pytest.raises(DeviceError, match="mmcblk0boot0 stays write-protected: "),
        unprotected(NUMBER, str(tmp_path)),
    ):
        pytest.fail("not reached")


def test_a_restore_that_fails_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was written stands; that the partition stays writable is said."""
    switch = protect(tmp_path)
    with unprotected(NUMBER, str(tmp_path)):
        switch.unlink()
        switch.mkdir()
    assert caplog.messages == [f"mmcblk0boot0 stays writable: {switch}: Is a directory"]
