"""`specie wallet ...`: the commands of somebody who holds ecash. Nothing here loads a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cyclopts import App, Group

from specie.cli.wallet import care, income, money, payment
from specie.cli.wallet.mints import app as mints

__all__ = ["app"]

app = App(
    name="wallet",
    help="Hold ecash: mint, send, receive and pay. The first command makes the wallet.",
    help_epilogue="""\
[bold]Examples[/bold]
  specie wallet mint 100
  token=$(specie wallet send 21)
  specie wallet receive "$token" --name bob
  specie wallet invoice 10 --name bob | specie wallet pay -
""",
)
_MONEY = Group("Money", sort_key=1)
_CARE = Group("Keep it safe", sort_key=2)
_MORE = Group("More", sort_key=3)

_GROUPS: tuple[tuple[Group, tuple[Callable[..., Any], ...]], ...] = (
    (
        _MONEY,
        (
            money.balance,
            income.mint,
            income.invoice,
            money.send,
            money.receive,
            payment.pay,
            money.lock,
            money.reclaim,
            income.quotes,
        ),
    ),
    (_CARE, (care.init, care.words, care.restore, care.backup, care.pending, care.resume, care.tidy)),
    (_MORE, (care.history, care.names)),
)
for _group, _commands in _GROUPS:
    for _place, _command in enumerate(_commands):
        app.command(_command, name="list" if _command is care.names else None, group=_group, sort_key=_place)
mints.group = (_MORE,)
app.command(mints)
