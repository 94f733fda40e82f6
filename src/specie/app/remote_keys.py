"""The signer processes of a bank that holds no keys: one, or two with the same seed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from specie.kernel import Clock, Entropy, InvariantError, Telemetry, UnavailableError
from specie.keys import Signer
from specie.keys.adapters.pairing import Pairing
from specie.keys.adapters.remote import RemoteSigner
from specie.keys.engine.replicated import Replica, ReplicatedSigner
from specie.ops.settings import KeysSettings, RemoteKeysSettings

__all__ = ["open_remote_signer"]


async def open_remote_signer(keys: KeysSettings, *, clock: Clock, entropy: Entropy, telemetry: Telemetry) -> Signer:
    """Reach the signer that the settings name, or with a standby whichever of the two is there; the other one may come later.

    UnavailableError if nobody is reached, PairingError and PeerFaultError as of `RemoteSigner`, KeysDifferError for two seeds.
    """
    if keys.standby.socket is None:
        return await _reached(keys.remote, clock, entropy, telemetry)
    places = (keys.remote, keys.standby)
    found = await asyncio.gather(*(_reached(place, clock, entropy, telemetry) for place in places), return_exceptions=True)
    reached = [signer for signer in found if isinstance(signer, RemoteSigner)]
    try:
        for failure in found:
            if isinstance(failure, BaseException) and (not reached or not isinstance(failure, UnavailableError)):
                raise failure
        first, second = (
            signer if isinstance(signer, RemoteSigner) else _expected(place, reached[0], clock, entropy, telemetry)
            for signer, place in zip(found, places, strict=True)
        )
    except BaseException:
        await asyncio.gather(*(signer.close() for signer in reached), return_exceptions=True)
        raise
    both = ReplicatedSigner(
        [Replica("remote", first), Replica("standby", second)],
        clock=clock,
        entropy=entropy,
        telemetry=telemetry,
        identity="signer",
        deadline_s=keys.remote.deadline_s,
    )
    await both.start()
    return both


async def _reached(place: RemoteKeysSettings, clock: Clock, entropy: Entropy, telemetry: Telemetry) -> RemoteSigner:
    socket, pairing = _place(place)
    return await RemoteSigner.open(
        socket,
        pairing,
        clock=clock,
        entropy=entropy,
        deadline_s=place.deadline_s,
        wait_s=place.wait_s,
        check_all=place.check_all,
        telemetry=telemetry,
    )


def _expected(
    place: RemoteKeysSettings, other: RemoteSigner, clock: Clock, entropy: Entropy, telemetry: Telemetry
) -> RemoteSigner:
    """One that is away now; it is held to the seed of the other one."""
    socket, pairing = _place(place)
    return RemoteSigner(
        socket,
        pairing,
        other.welcome,
        clock=clock,
        entropy=entropy,
        deadline_s=place.deadline_s,
        check_all=place.check_all,
        telemetry=telemetry,
    )


def _place(place: RemoteKeysSettings) -> tuple[Path, Pairing]:
    if place.socket is None or place.identity is None or place.signer is None:
        raise InvariantError("keys.remote or keys.standby was not checked")
    return place.socket, Pairing(place.identity, place.signer)
