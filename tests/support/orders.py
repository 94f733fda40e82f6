"""What a rail is really told to do: the judge of whether something was paid twice."""

from __future__ import annotations

import hashlib

from specie.kernel import PaymentOrder, PaymentOutcome
from specie.keys.adapters.software import SoftwareSigner
from specie.lightning import InvoiceDraft, Network, encode_invoice
from specie.lightning.adapters.play import PlayRail
from specie.lightning.adapters.play_requests import PlayRequestRail
from tests.support.house import House
from tests.support.virtual import SeededEntropy

__all__ = ["Orders", "foreign_invoice", "watch_orders"]


class Orders(list[PaymentOrder]):
    """Every order a rail was given, in turn."""

    @property
    def attempts(self) -> set[tuple[str, str]]:
        """What the rail may pay once each: (payment, attempt)."""
        return {(order.payment_id, order.attempt) for order in self}


def watch_orders(rail: PlayRail | PlayRequestRail) -> Orders:
    """Remember every order from now on."""
    orders, pay = Orders(), rail.pay

    async def watched(order: PaymentOrder) -> PaymentOutcome:
        orders.append(order)
        return await pay(order)

    rail.pay = watched  # type: ignore[method-assign]
    return orders


async def foreign_invoice(bank: House, amount_msat: int | None = 10_000, name: str = "elsewhere") -> str:
    """An invoice of another node on the play network; another one for another `name`."""
    signer = SoftwareSigner(b"\x09" * 32, threads=0, entropy=SeededEntropy(name))
    draft = InvoiceDraft(
        network=Network.REGTEST,
        amount_msat=amount_msat,
        timestamp=bank.clock.now(),
        payment_hash=hashlib.sha256(name.encode()).digest(),
        payment_secret=hashlib.sha256(b"secret" + name.encode()).digest(),
        description=name,
    )

    async def sign(digest: bytes) -> tuple[bytes, int]:
        return (await signer.sign_recoverable("node", [digest]))[0]

    return await encode_invoice(draft, sign)
