"""The modules of the wallet's verbs and parts, each loaded when the wallet first needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.kernel.front_door import front_door

if TYPE_CHECKING:
    from specie.wallet.engine import (
        allowance,
        batch,
        deposits,
        due,
        exits,
        issue,
        kept_secrets,
        liabilities,
        locks,
        methods,
        mint_list,
        mints,
        offline,
        pay,
        prices,
        receive,
        recover,
        recovery,
        requests,
        reshape,
        restore,
        seen,
        send,
        split,
        targets,
        till,
        transfer,
    )
else:
    __getattr__ = front_door(
        __name__,
        {
            "": (
                "allowance",
                "batch",
                "deposits",
                "due",
                "exits",
                "issue",
                "kept_secrets",
                "liabilities",
                "locks",
                "methods",
                "mint_list",
                "mints",
                "offline",
                "pay",
                "prices",
                "receive",
                "recover",
                "recovery",
                "requests",
                "reshape",
                "restore",
                "seen",
                "send",
                "split",
                "targets",
                "till",
                "transfer",
            )
        },
        package="specie.wallet.engine",
    )

__all__ = [
    "allowance",
    "batch",
    "deposits",
    "due",
    "exits",
    "issue",
    "kept_secrets",
    "liabilities",
    "locks",
    "methods",
    "mint_list",
    "mints",
    "offline",
    "pay",
    "prices",
    "receive",
    "recover",
    "recovery",
    "requests",
    "reshape",
    "restore",
    "seen",
    "send",
    "split",
    "targets",
    "till",
    "transfer",
]
