# SPDX-License-Identifier: MIT
"""Who is compared: MD5 alone, this project, what one would write by hand, and two peers."""

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench import ours
from bench.run import Run, run
from bench.stage import Device, Image, Stage

MD5, OFF, ON = "`openssl md5`", "`updater write --no-read-back`", "`updater write`"
PIPE = "`curl | tee >(md5sum) | dd`"
SWUPDATE, RAUC = "swupdate", "rauc"


@dataclass(frozen=True)
class Contender:
    """One row of the table."""

    name: str
    run: Callable[[], Run]
    writes: bool = True  # and must leave the image on the device


def contenders(stage: Stage, image: Image, device: Device) -> list[Contender]:
    """Return them, each ready to run."""
    certificate = _certificate(stage.folder)
    return [
        Contender(MD5, partial(run, ["openssl", "md5", str(image.path)], image.md5), writes=False),
        Contender(OFF, partial(ours.write, image, device, "--no-read-back")),
        Contender(ON, partial(ours.write, image, device)),
        Contender(PIPE, partial(_pipe, image, device)),
        Contender(SWUPDATE, _swupdate(image, device, certificate)),
        Contender(RAUC, _rauc(image, device, certificate)),
    ]


def _pipe(image: Image, device: Device) -> Run:
    """Run what one would write by hand; the FIFO is what ``>()`` is, and can be waited for."""
    fifo = image.path.with_name("fifo")
    script = f"""
        md5sum <{fifo} &
        curl -s {image.url} | tee {fifo} |
            dd of={device.path} bs=1M iflag=fullblock oflag=direct conv=fsync status=none
        wait
    """
    os.mkfifo(fifo)
    try:
        return run(["bash", "-ec", script], image.md5)
    finally:
        fifo.unlink()


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate and its key, with which both peers sign and verify."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=bench"]
    words += ["-days", "60", "-addext", "extendedKeyUsage=emailProtection"]
    words += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    return certificate, key


# --- swupdate ------------------------------------------------------------------------------------

_SW_DESCRIPTION = """\
software = {{
    version = "1";
    hardware-compatibility: [ "1.0" ];
    images: ( {{
        filename = "{name}";
        device = "{device}";
        type = "raw";
        installed-directly = true;
        sha256 = "{sha256}";
    }} );
}}
"""


def _swupdate(image: Image, device: Device, certificate: tuple[Path, Path]) -> Callable[[], Run]:
    """Make the archive that the server offers."""
    folder, (cert, key) = image.path.parent, certificate
    words = ["sha256sum", str(image.path)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    description = _SW_DESCRIPTION.format(
        name=image.path.name, device=device.path, sha256=done.stdout.split()[0]
    )
    (folder / "sw-description").write_text(description)
    script = f"""
        cd {folder}
        openssl cms -sign -in sw-description -out sw-description.sig -signer {cert} \
            -inkey {key} -outform DER -nosmimecap -binary
        printf '%s\\n' sw-description sw-description.sig {image.path.name} |
            cpio --quiet -oL -H crc >image.swu
    """
    subprocess.run(["bash", "-ec", script], check=True)
    source = f"-u {image.server}/image.swu"
    return partial(run, ["swupdate", "-H", "bench:1.0", "-k", str(cert), "-d", source])


# --- rauc ----------------------------------------------------------------------------------------

_MANIFEST = """\
[update]
compatible=bench
version=1
[image.rootfs]
filename=image.img
"""

_SYSTEM = """\
[system]
compatible=bench
bootloader=custom
bundle-formats=plain verity
mountprefix={folder}/mounts
statusfile={folder}/status
[keyring]
path={cert}
[handlers]
bootloader-custom-backend={folder}/backend
[slot.rootfs.0]
device=/dev/null
type=raw
bootname=A
[slot.rootfs.1]
device={device}
type=raw
bootname=B
"""

_BACKEND = """\
#!/bin/sh
case $1 in
get-state) echo good ;;
get-*) echo A ;;
esac
"""

_INSTALL = """\
export DBUS_STARTER_BUS_TYPE=session
rauc --conf={folder}/system.conf --override-boot-slot=A service >{folder}/service.log 2>&1 &
service=$!
trap 'kill $service; wait $service || true' EXIT
sleep 0.5
began=$EPOCHREALTIME
rauc install {folder}/image.raucb
echo "wall: $began $EPOCHREALTIME"
"""


def _rauc(image: Image, device: Device, certificate: tuple[Path, Path]) -> Callable[[], Run]:
    """Make the bundle, which lies in memory, and a configuration."""
    folder, (cert, key) = image.path.parent / "rauc", certificate
    content = folder / "content"
    for path in (content, folder / "mounts"):
        path.mkdir(parents=True)
    (content / "image.img").hardlink_to(image.path)
    (content / "manifest.raucm").write_text(_MANIFEST)
    (folder / "system.conf").write_text(
        _SYSTEM.format(folder=folder, cert=cert, device=device.path)
    )
    (folder / "backend").write_text(_BACKEND)
    (folder / "backend").chmod(0o755)
    words = ["rauc", "bundle", f"--cert={cert}", f"--key={key}", f"--keyring={cert}"]
    subprocess.run([*words, content, folder / "image.raucb"], check=True, capture_output=True)
    return partial(_rauc_install, _INSTALL.format(folder=folder))


def _rauc_install(script: str) -> Run:
    """Run the service on a bus of its own; only the installation is timed, not its start."""
    words = ["dbus-run-session", "--", "bash", "-ec", script]
    done = run(words, "succeeded")
    found = re.search(r"wall: (\S+) (\S+)", done.said)
    assert found
    return replace(done, wall_s=float(found[2]) - float(found[1]))
