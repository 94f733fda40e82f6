"""`specie wallet ...`: the commands of somebody who holds ecash. Nothing here loads a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cyclopts import App, Group

from specie.cli.wallet import audits, auth, care, claim, deposits, income, money, paid, payment, placing, safety, watching
from specie.cli.wallet.frames import frames
from specie.cli.wallet.mints import app as mints
from specie.cli.wallet.offline import app as offline
from specie.cli.wallet.request import app as request

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
_PLACES = Group("Where it lies", sort_key=3)
_PAID = Group("Paid HTTP", sort_key=4)
_MORE = Group("More", sort_key=5)

_GROUPS: tuple[tuple[Group, tuple[Callable[..., Any], ...]], ...] = (
    (_MONEY, (money.balance, income.mint, income.invoice, money.send, money.receive, payment.pay, money.lock, money.reclaim)),
    (_MONEY, (income.quotes, deposits.deposits, deposits.deposit_key, deposits.deposit_for)),
    (_CARE, (care.init, care.words, care.restore, safety.backup, safety.drill, safety.reseal, safety.encrypt, safety.decrypt)),
    (_CARE, (care.pending, care.resume, care.tidy, claim.claim)),
    (_CARE, (audits.verify_mint, audits.verify_evidence)),
    (_PLACES, (placing.transfer, placing.rebalance, placing.leave)),
    (_PAID, (paid.fetch, paid.paywall, paid.takings)),
    (_MORE, (care.history, care.names, frames, auth.login, auth.logout)),
)
for _row, (_group, _commands) in enumerate(_GROUPS):
    for _place, _command in enumerate(_commands):
        app.command(_command, name="list" if _command is care.names else None, group=_group, sort_key=20 * _row + _place)
request.group = (_MONEY,)
app.command(request)
for _command in (placing.remove, placing.stay, watching.health, watching.policy, watching.watch):
    mints.command(_command)
placing.targets.group = (_PLACES,)
app.command(placing.targets)
offline.group = (_CARE,)
app.command(offline)
mints.group = (_MORE,)
app.command(mints)
auth.app.group = (_MORE,)
app.command(auth.app)
