"""`specie` whose rails take a moment to pay: run as a program by `bench.mixed`, with the command line of `specie`.

SLOW_RAIL_S in the environment says how long, in seconds (0.5 unless given).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from specie.app import bank as composition
from specie.cli import main
from specie.lightning.adapters.play import Fault, PlayFaults, PlayRail

_open_bank = composition.open_bank


@contextlib.asynccontextmanager
async def _slowed(*arguments: Any, **options: Any) -> AsyncIterator[composition.Bank]:
    delay_s = float(os.environ.get("SLOW_RAIL_S", "0.5"))
    async with _open_bank(*arguments, **options) as bank:
        for rail in bank.rails:
            if isinstance(rail, PlayRail):
                rail.set_faults(PlayFaults(always=Fault.delay(delay_s)))
        yield bank


if __name__ == "__main__":
    composition.open_bank = _slowed
    sys.exit(main())
