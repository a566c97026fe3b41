# SPDX-License-Identifier: MIT
"""Builds ``updater._native``: the header is the cdef, every other C file here is compiled in.

Our own C is compiled with the warnings of the project's style. They are errors where
``UPDATER_WERROR=1`` (the project's own builds set it); a newer compiler's new warning must not
break somebody's ``pip install``.
"""

import os
import re
from pathlib import Path

import cffi

HERE = Path(__file__).resolve().parent
SOURCES = sorted(str(path) for path in HERE.glob("*.c"))

HARDENING = ["-fstack-protector-strong", "-fvisibility=hidden", "-O2", "-U_FORTIFY_SOURCE"]
HARDENING += ["-D_FORTIFY_SOURCE=2"]
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Wformat=2"]
# cffi's glue is not ours: what it cannot keep is asked of our files alone, by native/Makefile
DEFINES = ["-std=gnu11", "-D_FILE_OFFSET_BITS=64"]
LINKING = ["-Wl,-z,relro,-z,now", "-Wl,--as-needed"]


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
    include_dirs=[os.path.relpath(HERE)],
    libraries=["curl", "crypto", "pthread"],
    extra_compile_args=[*DEFINES, *HARDENING, *WARNINGS]
    + (["-Werror"] if os.environ.get("UPDATER_WERROR") == "1" else []),
    extra_link_args=LINKING,
    py_limited_api=True,
)
