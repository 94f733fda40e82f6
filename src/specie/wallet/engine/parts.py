"""The parts of a wallet, each made when it is first asked for: a group of verbs is a class, and one attribute of the wallet."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from specie.wallet.engine import verbs

if TYPE_CHECKING:
    from specie.wallet.engine.allowance import Allowance
    from specie.wallet.engine.context import Context
    from specie.wallet.engine.deposits import Deposits
    from specie.wallet.engine.exits import Exits
    from specie.wallet.engine.kept_secrets import KeptSecrets
    from specie.wallet.engine.liabilities import MintLiabilities
    from specie.wallet.engine.mint_list import MintList
    from specie.wallet.engine.offline import Offline
    from specie.wallet.engine.recovery import Recovery
    from specie.wallet.engine.requests import Requests
    from specie.wallet.engine.targets import Targets
    from specie.wallet.engine.till import Till
    from specie.wallet.engine.transfer import Transfers
    from specie.wallet.ports import Transports

__all__ = ["WalletParts"]


class WalletParts:
    """What hangs on a `Wallet`; its verbs stand in `wallet`."""

    _context: Context
    _transports: Transports

    @cached_property
    def requests(self) -> Requests:
        """Payment requests, ours and those we pay (NUT-18)."""
        return verbs.requests.Requests(self._context, self._transports)

    @cached_property
    def mint_list(self) -> MintList:
        """The list of mints, kept on Nostr relays (NUT-27)."""
        return verbs.mint_list.MintList(self._context, self.requests)

    @cached_property
    def transfers(self) -> Transfers:
        """Money from mint to mint."""
        return verbs.transfer.Transfers(self._context)

    @cached_property
    def targets(self) -> Targets:
        """What each mint should hold."""
        return verbs.targets.Targets(self._context, self.transfers)

    @cached_property
    def exits(self) -> Exits:
        """Mints that are left, and their health."""
        return verbs.exits.Exits(self._context, self.transfers, self.targets)

    @cached_property
    def offline(self) -> Offline:
        """What is taken without asking a mint."""
        return verbs.offline.Offline(self._context)

    @cached_property
    def till(self) -> Till:
        """Tokens taken for resources (NUT-24)."""
        return verbs.till.Till(self._context)

    @cached_property
    def allowance(self) -> Allowance:
        """Resources paid for within limits (NUT-24)."""
        return verbs.allowance.Allowance(self._context)

    @cached_property
    def recovery(self) -> Recovery:
        """Quotes claimed by their id, with the words alone."""
        return verbs.recovery.Recovery(self._context)

    @cached_property
    def secrets(self) -> KeptSecrets:
        """Small secrets, sealed in the database; a `keys.SecretStore`."""
        return verbs.kept_secrets.KeptSecrets(
            self._context.storage, self._context.store, self._context.signer, self._context.clock
        )

    @cached_property
    def deposits(self) -> Deposits:
        """Mint quotes that others have locked to our keys (draft)."""
        return verbs.deposits.Deposits(self._context)

    @cached_property
    def liabilities(self) -> MintLiabilities:
        """What mints prove of what they owe, checked against our coins (draft)."""
        return verbs.liabilities.MintLiabilities(self._context)
