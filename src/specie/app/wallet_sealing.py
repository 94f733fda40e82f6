"""How a wallet that is not open is sealed: looked at, opened for its words alone, and changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from specie.app.system import SystemEntropy
from specie.app.wallet import Wallet, play_only
from specie.app.wallet_files import open_seed, seed_store
from specie.app.wallet_places import wallet_directory
from specie.ecash.mint_url import mint_url_checked
from specie.kernel.entropy import Entropy
from specie.kernel.errors import PeerFaultError, RefusedError
from specie.kernel.hd import words_from_entropy
from specie.keys import SealForm, SealSource
from specie.wallet import MintClient
from specie.wallet.play import announces_play_money

__all__ = ["announces_play", "keyring_works", "live_words", "reseal_wallet", "wallet_seal"]


def keyring_works(name: str | Path = "default") -> bool:
    """Whether a keyring that is known to be safe answers here. Blocks."""
    return seed_store(wallet_directory(name), SystemEntropy()).keyring_works()


def wallet_seal(name: str | Path = "default", *, home: Path | None = None) -> SealForm | None:
    """How a wallet's words are sealed; None where there is no wallet. Blocks."""
    return seed_store(wallet_directory(name, home=home), SystemEntropy()).form()


def live_words(
    name: str | Path = "default", sealed: SealSource | None = None, *, home: Path | None = None, config_home: Path | None = None
) -> str:
    """The words of a wallet that is not opened otherwise. Blocks. SeedMissingError; errors of sealing."""
    directory = wallet_directory(name, home=home)
    opened = open_seed(directory, sealed or SealSource(), None, False, SystemEntropy(), config_home)
    return words_from_entropy(opened.seed)


async def reseal_wallet(
    name: str | Path,
    old: SealSource,
    new: SealSource,
    *,
    entropy: Entropy | None = None,
    home: Path | None = None,
    config_home: Path | None = None,
) -> SealForm:
    """Seal a wallet's words in another way, at once or not at all; the way they are sealed now.

    SealTooWeakError for a key file where any of its mints does not say that its money is play money; errors of sealing. No
    other command of this wallet may run.

    Logins come along. Those in the keyring step back into the wallet's database first, sealed by a key of the words, for
    their entries are named after the seal; then the words are sealed anew. Under a keyring each moves there when it is first
    used again, as after a crash in between. So no step loses a login, none lies in the open, and no entry is left over.
    """
    seeds = seed_store(wallet_directory(name, home=home), entropy or SystemEntropy(), config_home)
    if not old.given and seeds.form() is SealForm.KEYRING:
        old = SealSource(keyring=True)
    weak = new.play_key or not new.given
    if weak or seeds.form() is SealForm.KEYRING:
        opening = Wallet.open(name, sealed=old, create=False, resume=False, home=home, config_home=config_home)
        async with opening as wallet:
            for view in await wallet.mints() if weak else ():
                play_only(view.url, view.info)
            if wallet._moved is not None:
                await wallet._moved.move_back()
    await asyncio.to_thread(seeds.reseal, old, new, all_play=new.play_key)
    form = seeds.form()
    assert form is not None
    return form


async def announces_play(url: str, *, clients: Callable[[str], MintClient] | None = None) -> bool:
    """Whether the mint at `url` says that its money is play money. MalformedError, UnavailableError."""
    from specie.wallet.adapters.http import HttpMintClient

    normal = mint_url_checked(url)
    client = clients(normal) if clients else HttpMintClient(normal)
    try:
        return announces_play_money(await client.info())
    except (RefusedError, PeerFaultError):
        return False
    finally:
        await client.close()
