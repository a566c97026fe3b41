# SPDX-License-Identifier: MIT
"""Renders the board's boot script into boot.cmd, which is committed and tested as it stands."""

from board.emulator import image

if __name__ == "__main__":
    place = image.BOARD / "boot.cmd"
    place.write_text(image.render_boot_script())
    print(f"{place.name} of {image.BOARD.name} rendered")
