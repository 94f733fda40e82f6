"""Private PKCS#11 tokens made by SoftHSM2: one store a process, a token of its own for each test that asks.

The module reads SOFTHSM2_CONF once, when it is initialised, so a process has one store; it is made on first use and removed
when the process ends. Where SoftHSM2 or python-pkcs11 is not installed it is a missing component.
"""

from __future__ import annotations

import atexit
import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tests.support.components import missing_component

__all__ = ["PIN", "SoftToken", "new_token", "token_store"]

PIN = "271828"
SO_PIN = "31415926"
MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    *sorted(str(path) for path in Path("/usr/lib").glob("*/softhsm/libsofthsm2.so")),
    "/usr/lib64/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class SoftToken:
    """A token: its module, its label, and the file with its PIN. `directory` holds all tokens of the store."""

    module: Path
    label: str
    pin_file: Path
    directory: Path
    environment: dict[str, str]
    """What another process needs to see it."""


@lru_cache(maxsize=1)
def token_store() -> tuple[Path, Path]:
    """The module and the folder of this process's store; SOFTHSM2_CONF names it from now on."""
    module = next((Path(path) for path in MODULES if Path(path).exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        missing_component("softhsm", "no SoftHSM2; scripts/install-softhsm.sh installs it")
    if importlib.util.find_spec("pkcs11") is None:
        missing_component("softhsm", "no python-pkcs11; the extra specie[hsm] has it")
    memory = Path("/dev/shm")  # each key is written with several fsyncs
    folder = Path(tempfile.mkdtemp(prefix="specie-softhsm-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(
        f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"
    )
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    return module, folder


def new_token(label: str | None = None) -> SoftToken:
    """A new, empty token with `PIN`, named after `label` or by a number."""
    module, folder = token_store()
    name = label or f"token-{next(_numbers)}"
    environment = {"SOFTHSM2_CONF": str(folder / "softhsm2.conf")}
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", name, "--so-pin", SO_PIN, "--pin", PIN],
        env=os.environ | environment,
        check=True,
        capture_output=True,
        timeout=30,
    )
    pin_file = folder / "pin"
    if not pin_file.exists():
        pin_file.touch(0o600)
        pin_file.write_text(PIN + "\n")
    return SoftToken(module, name, pin_file, folder / "tokens", environment)
