"""`specie mint restart`: the workers of a running bank are replaced, one after another, while it serves."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.bank_options import BankOptions, bank_settings

__all__ = ["restart"]

_LOOK_EVERY_S = 0.2


async def restart(
    *,
    no_wait: Annotated[
        bool, Parameter(negative="", show_default=False, help="Come back at once, not when the last worker is replaced.")
    ] = False,
    timeout: Annotated[float, Parameter(help="Seconds to wait for the last worker.")] = 300.0,
    bank: BankOptions | None = None,
    screen: ScreenArgument,
) -> None:
    """Replace the workers of a running bank one by one, with new settings and code; no request fails. SIGHUP does the same.

    Each new worker takes connections before an old one stops. Where a new one does not start, the old ones go on.
    """
    import asyncio

    from specie.cli.operator import sentence
    from specie.kernel.errors import UnavailableError
    from specie.server.admin_client import admin_client

    async with admin_client(bank_settings(bank or BankOptions()).admin_socket) as client:
        begun = await client.restart()
    if no_wait:
        screen.answer({"restarting": True, "workers": begun["count"]}, sentence("restarting", f"{begun['count']} workers"))
        return
    with screen.progress("replacing the workers"):
        try:
            async with asyncio.timeout(timeout):
                while True:
                    await asyncio.sleep(_LOOK_EVERY_S)
                    try:  # each time a new connection: the socket changes hands
                        async with admin_client(bank_settings(bank or BankOptions()).admin_socket) as client:
                            now = await client.workers()
                    except UnavailableError:
                        continue
                    if now["generation"] > begun["generation"]:
                        break
        except TimeoutError:
            raise UnavailableError("the workers were not all replaced; the bank's log says why") from None
    screen.answer({"restarting": False, "workers": now["count"]}, sentence("restarted", f"{now['count']} workers"))
