# SPDX-License-Identifier: MIT
"""The device of ``sim.world``: its configuration, its board, and the images that it meets first."""

from sim.cloud import DEVICE, PRODUCT
from sim.flash import MIB, Image
from updater.core.config import (
    Board,
    BoardName,
    CloudConfig,
    Config,
    HealthCommand,
    HealthConfig,
    SlotConfig,
)
from updater.core.model import Slot

OLD = Image("0.1")  # what the factory has installed
NEW = Image("0.2")

CONFIG = Config(
    cloud=CloudConfig(host="cloud.test", product_id=PRODUCT, device_name=DEVICE),
    health=HealthConfig(
        command=(
            HealthCommand(name="application", argv=("/bin/true",)),
            HealthCommand(name="gateway", argv=("/bin/true",)),
        )
    ),
)
BOARD = Board(
    board=BoardName(name="memory"),
    slot=(SlotConfig(bootname="A", partlabel="a"), SlotConfig(bootname="B", partlabel="b")),
)
SLOTS = {
    "A": Slot("A", "/dev/a", 0x801, 64 * MIB),
    "B": Slot("B", "/dev/b", 0x802, 64 * MIB),
}
TABLE = tuple(SLOTS)
FACTORY = {"boot_slot": "A", "upgrade_available": "0", "bootcount": "0", "ethaddr": "52:54:00:12"}

FIRMWARE_S = 3.0  # from a reset to the kernel
PANIC_S = 5.0  # from a panic to the reset
DEAD_MAN_S = 3600.0  # later than every deadline of CONFIG
