"""`specie mint play ...`: the operator as the world around a bank in play money: who pays it, which blocks there are."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.operator import Bank, reach, sentence

__all__ = ["app", "settle"]

app = App(name="play", help="Move play money, and the blocks it is in, by hand.", help_epilogue="")


async def settle(
    request: Annotated[str, Parameter(help="Invoice, offer or address of this bank, or its id at the rail.")],
    *,
    amount: Annotated[
        int | None, Parameter(help="Satoshi to pay to a request that names no amount; 10,000 unless given.")
    ] = None,
    bank: Bank = None,
    screen: ScreenArgument,
) -> None:
    """Have the play rail pay one of the bank's own requests now."""
    async with reach(bank) as client:
        await client.settle(request, None if amount is None else amount * 1000)
    screen.answer({"settled": True}, sentence("settled", "in play money"))


@app.command
async def mine(
    *,
    blocks: Annotated[int, Parameter(help="How many blocks, 1 to 1,000.")] = 1,
    bank: Bank = None,
    screen: ScreenArgument,
) -> None:
    """Mine play blocks now; what they bury deep enough is confirmed."""
    async with reach(bank) as client:
        height = await client.mine(blocks)
    screen.answer({"height": height}, sentence("mined", f"the play chain is {height:,} blocks high"))


@app.command
async def reorganise(
    *,
    depth: Annotated[int, Parameter(help="How many of the newest blocks are undone.")] = 1,
    drop: Annotated[str | None, Parameter(help="Id of a transaction in them whose sender then pays somebody else.")] = None,
    bank: Bank = None,
    screen: ScreenArgument,
) -> None:
    """Undo the newest play blocks: deposits in them are withdrawn until other blocks have them."""
    async with reach(bank) as client:
        withdrawn = await client.reorganise(depth, drop=drop)
    screen.answer({"withdrawn": withdrawn}, sentence("reorganised", f"{withdrawn:,} deposits withdrawn"))


@app.command
async def replace(
    txid: Annotated[str, Parameter(help="Id of a transaction that no block has.")],
    *,
    elsewhere: Annotated[bool, Parameter(negative="", help="The other transaction pays somebody else.")] = False,
    bank: Bank = None,
    screen: ScreenArgument,
) -> None:
    """Have the sender of a play transaction replace it by another."""
    async with reach(bank) as client:
        other = await client.replace(txid, paid=not elsewhere)
    screen.answer({"txid": other}, sentence("replaced", other or "by one that pays somebody else"))
