"""A signer as a bank's is: with native code for the mint's curve work, where this version has it and this machine runs it.

Looked for by name, so that commits with and without it can be compared.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from specie.kernel import Entropy
from specie.keys.adapters.software import SoftwareSigner

__all__ = ["bank_signer", "curve_work"]

_MODULE = "specie.keys.adapters.native_batch"


def _native() -> dict[str, Any]:
    if importlib.util.find_spec(_MODULE) is None:
        return {}
    module = importlib.import_module(_MODULE)
    batch = module.native_batch()
    return {"batch": batch} if isinstance(batch, module.NativeBatch) else {}


def curve_work() -> str:
    """How a bank here does its curve work: `native` or `binding`."""
    return "native" if _native() else "binding"


def bank_signer(seed: bytes, entropy: Entropy, *, threads: int | None = None) -> SoftwareSigner:
    """The signer that `app` would give a bank of this seed; `threads` as of `SoftwareSigner`."""
    return SoftwareSigner(seed, threads=threads, entropy=entropy, **_native())
