"""The play rail of a payment method, whichever it is."""

from __future__ import annotations

from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.keys.ports import Signer
from specie.lightning.adapters.play import PlayRail
from specie.lightning.adapters.play_codecs import OfferCodec, PlainCodec
from specie.lightning.adapters.play_faults import PlayFaults
from specie.lightning.adapters.play_network import PlayNetwork
from specie.lightning.adapters.play_onchain import PlayOnchainRail
from specie.lightning.adapters.play_policy import PlaySettings
from specie.lightning.adapters.play_requests import PlayRequestRail
from specie.storage import Storage

__all__ = ["play_rail"]


def play_rail(
    method: str,
    storage: Storage,
    signer: Signer,
    clock: Clock,
    entropy: Entropy,
    settings: PlaySettings | None = None,
    *,
    name: str = "",
    autopay_delay_s: float | None = 3.0,
    faults: PlayFaults | None = None,
    telemetry: Telemetry = NULL_TELEMETRY,
    network: PlayNetwork | None = None,
) -> PlayRail | PlayRequestRail:
    """A play rail for `bolt11`, `bolt12`, `onchain` or any other method, not started. `name`: `play`, `play-bolt12`, ..."""
    if method == "bolt11":
        return PlayRail(
            storage,
            signer,
            clock,
            entropy,
            settings,
            autopay_delay_s=autopay_delay_s,
            faults=faults,
            telemetry=telemetry,
            name=name or "play",
            network=network,
        )
    name = name or f"play-{method}"
    if method == "onchain":
        return PlayOnchainRail(
            storage,
            signer,
            clock,
            entropy,
            settings,
            name=name,
            autopay_delay_s=autopay_delay_s,
            faults=faults,
            telemetry=telemetry,
        )
    return PlayRequestRail(
        storage,
        signer,
        clock,
        entropy,
        settings,
        method=method,
        codec=OfferCodec() if method == "bolt12" else PlainCodec(method),
        name=name,
        autopay_delay_s=autopay_delay_s,
        faults=faults,
        telemetry=telemetry,
    )
