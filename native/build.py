# SPDX-License-Identifier: MIT
"""Builds ``updater._native``: the header is the cdef, every other C file here is compiled in.

Our own C is compiled with the warnings of the project's style. They are errors where
``UPDATER_WERROR=1`` (the project's own builds set it); a newer compiler's new warning must not
break somebody's ``pip install``.
"""

import os
import re
import sysconfig
from pathlib import Path

import cffi

HERE = Path(__file__).resolve().parent
SOURCES = sorted(HERE.glob("*.c"))
HEADERS = sorted(HERE.glob("*.h"))

HARDENING = ["-O2", "-fvisibility=hidden", "-fstack-protector-strong", "-fstack-clash-protection"]
# undefined first: distributions set a level of their own, and two levels are a warning
HARDENING += ["-ftrivial-auto-var-init=zero", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3"]
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Wformat=2"]
# -Wconversion is asked of our files by tests/native/test_c.py; cffi's glue would not pass it
DEFINES = ["-std=gnu11", "-D_FILE_OFFSET_BITS=64"]

# what a device that unpacks nothing, or not all, can leave out: UPDATER_DECODERS=gzip,zstd or none
DECODERS = {"gzip": "z", "xz": "lzma", "zstd": "zstd"}
LINKING = ["-Wl,-z,relro,-z,now,-z,noexecstack"]
# 64-bit counters may be calls of a library where words have 32 bits (ARMv5 has no such atomics)
NARROW_WORD_BYTES = 4
IS_NARROW = sysconfig.get_config_var("SIZEOF_VOID_P") == NARROW_WORD_BYTES
ATOMIC = ["-Wl,--push-state,--as-needed,-latomic,--pop-state"] if IS_NARROW else []


def decoders() -> list[str]:
    """Return the formats that this build unpacks."""
    asked = os.environ.get("UPDATER_DECODERS", ",".join(DECODERS))
    chosen = [] if asked == "none" else asked.split(",")
    unknown = set(chosen) - DECODERS.keys()
    if unknown:
        known = ", ".join(DECODERS)
        raise SystemExit(f"UPDATER_DECODERS: unknown {sorted(unknown)}, known are {known}")
    return chosen


def declarations() -> str:
    """Return the header as cffi reads it: no comments, no preprocessor."""
    text = (HERE / "updater_native.h").read_text()
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


ffi = cffi.FFI()
ffi.cdef(declarations())
ffi.set_source(
    "updater._native",
    '#include <stdint.h>\n#include "updater_native.h"',
    sources=[os.path.relpath(source) for source in SOURCES],
    depends=[os.path.relpath(path) for path in (*HEADERS, Path(__file__))],
    include_dirs=[os.path.relpath(HERE)],
    libraries=["curl", "crypto", "pthread", *(DECODERS[name] for name in decoders())],
    extra_compile_args=[*DEFINES, *HARDENING, *WARNINGS]
    + [f"-DUPD_WITH_{name.upper()}" for name in decoders()]
    + (["-Werror"] if os.environ.get("UPDATER_WERROR") == "1" else []),
    extra_link_args=[*LINKING, *ATOMIC],
    py_limited_api=True,
)
