"""A process that pays through a play rail until it is killed, and says aloud what it was told: `python -m ... <store>`."""

from __future__ import annotations

import asyncio
import sys

from specie.app.system import SystemClock, SystemEntropy
from specie.kernel import PaymentOrder
from specie.keys.adapters.software import SoftwareSigner
from specie.lightning.adapters.play import PlayRail, PlaySettings
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.play import SEED, foreign_invoice


async def work(path: str, name: str) -> None:
    """Own and foreign payments by turns; each line is `<payment id> <attempt> <state>`."""
    storage = SqliteStorage(path)
    signer = SoftwareSigner(SEED, threads=0, entropy=SystemEntropy())
    clock = SystemClock()
    rail = PlayRail(storage, signer, clock, SystemEntropy(), PlaySettings(grace_s=0.2), autopay_delay_s=None)
    await rail.start()
    for number in range(10_000):
        if number % 2:
            request = (await rail.request(1000 + number, description="", expiry_s=600)).request
        else:
            request = await foreign_invoice(1000 + number, name=f"{name}/{number}", timestamp=clock.now())
        quote = await rail.quote(request)
        order = PaymentOrder(quote.payment_id, name, request, quote.amount_msat, quote.fee_reserve_msat)
        print(order.payment_id, order.attempt, "ORDERED", flush=True)
        outcome = await rail.pay(order)
        print(order.payment_id, order.attempt, outcome.state, flush=True)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2]))
