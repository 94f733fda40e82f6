"""Builds `batch.c` with the C compiler of the machine: `python -m specie.keys.native.build`; says so where there is none.

The library goes beside its source. It links nothing and includes the C standard library alone, so a compiler is all it needs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from hashlib import sha256
from pathlib import Path

__all__ = ["LIBRARY", "SOURCE", "build", "main", "source_mark"]

SOURCE = Path(__file__).with_name("batch.c")
LIBRARY = SOURCE.with_name(f"batch-{sysconfig.get_platform()}.so")
_FLAGS = ("-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-fstack-protector-strong", "-Wall", "-Wextra", "-Werror")
_LIMIT_S = 120.0


def source_mark(source: Path = SOURCE) -> str:
    """What a library built from this source answers when it is asked where it comes from."""
    return sha256(source.read_bytes()).hexdigest()[:32]


def build(target: Path = LIBRARY, *, compiler: str | None = None) -> str:
    """Compile; "" if `target` is now there, whole, or why not. A library that was there is replaced at once or kept."""
    compiler = compiler or os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        return "there is no C compiler"
    command = [*compiler.split(), *_FLAGS, f'-DSPECIE_SOURCE="{source_mark()}"', str(SOURCE), "-o"]
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as directory:
            made = Path(directory, target.name)
            done = subprocess.run([*command, str(made)], capture_output=True, text=True, check=False, timeout=_LIMIT_S)  # noqa: S603 - the compiler of who builds
            if done.returncode:
                reason = next((line for line in done.stderr.splitlines() if "error" in line), "")
                return f"{compiler} failed: {reason.strip() or done.returncode}"
            made.replace(target)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main() -> int:
    """Build, and say how it went. 0 in any case: everything works without."""
    failure = build()
    if failure:
        sys.stdout.write(f"specie: the native batches were not built ({failure}); the published binding does their work\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
