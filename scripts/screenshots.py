"""Makes docs/images/start-*.png: starts a throw-away bank, moves some play money, and photographs its start page.

Needs a Chromium (`apt-get install chromium`), named by CHROMIUM where it is not on the path. Usage:

    .venv/bin/python scripts/screenshots.py [directory]
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx2

from specie.ecash import (
    Keyset,
    MeltQuoteRequest,
    MeltRequest,
    MintQuote,
    MintQuoteRequest,
    MintRequest,
    Proof,
    blinded_message,
    fee_for,
    unblind_signature,
    wire,
)
from specie.kernel import split_amount
from specie.server import admin_client

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
SHOTS = (("wide", 1280, 1062, 1), ("narrow", 360, 780, 2))
"""Name, width and height in CSS pixels, and pixels for each."""
SCHEMES = (("light", 1), ("dark", 0))
SETTINGS = """
[mint]
name = "Corner Bank"
description = "A neighbourhood ecash bank. Private money over Lightning, with the books open on the counter."
motd = "This bank plays with play money. Try everything; nothing here is worth anything."
input_fee_ppk = 0
[server]
public_url = "http://127.0.0.1:3338"
"""


class Customer:
    """As much of a wallet as a photograph needs."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def _post(self, path: str, body: bytes) -> bytes:
        answer = await self._client.post(path, content=body)
        answer.raise_for_status()
        return answer.content

    async def quote(self, amount: int) -> MintQuote:
        body = wire.mint_quote_request_to_json(MintQuoteRequest("bolt11", "sat", amount))
        return wire.mint_quote_from_json(await self._post("/v1/mint/quote/bolt11", body), method="bolt11")

    async def keyset(self) -> Keyset:
        return wire.keys_from_json((await self._client.get("/v1/keys")).content)[0]

    async def mint(self, amount: int) -> list[Proof]:
        return await self.take(await self.quote(amount))

    async def take(self, quote: MintQuote) -> list[Proof]:
        keyset = await self.keyset()
        async with asyncio.timeout(20):
            while not quote.mintable:
                await asyncio.sleep(0.05)
                answer = await self._client.get(f"/v1/mint/quote/bolt11/{quote.quote}")
                quote = wire.mint_quote_from_json(answer.content, method="bolt11")
        amounts = split_amount(quote.mintable, keyset.keys)
        makings = [(secrets.token_hex(32), secrets.token_bytes(32)) for _ in amounts]
        outputs = tuple(blinded_message(a, keyset.id, s, r) for a, (s, r) in zip(amounts, makings, strict=True))
        body = wire.mint_request_to_json(MintRequest("bolt11", quote.quote, outputs))
        signatures = wire.signatures_from_json(await self._post("/v1/mint/bolt11", body))
        return [
            unblind_signature(output, signature, secret=s, r=r, key=keyset.keys[signature.amount])
            for output, signature, (s, r) in zip(outputs, signatures, makings, strict=True)
        ]

    async def pay(self, invoice: str, coins: list[Proof]) -> None:
        body = wire.melt_quote_request_to_json(MeltQuoteRequest("bolt11", invoice, "sat"))
        quote = wire.melt_quote_from_json(await self._post("/v1/melt/quote/bolt11", body), method="bolt11")
        request = MeltRequest("bolt11", quote.quote, tuple(coins))
        await self._post("/v1/melt/bolt11", wire.melt_request_to_json(request))


async def move_money(url: str, socket: Path) -> None:
    """A busy morning at the counter."""
    async with httpx2.AsyncClient(base_url=url, timeout=30) as client, admin_client(socket) as operator:
        customer = Customer(client)
        first = await customer.mint(21_000)
        await customer.mint(2_500)
        shop = await customer.quote(sum(coin.amount for coin in first) - 40)
        await customer.pay(shop.request, first)
        await customer.take(shop)
        await operator.rotate("sat", input_fee_ppk=100)
        coins = await customer.mint(1_024)
        fee = fee_for(100 for _ in coins)
        lunch = await customer.quote(1_000 - fee)
        await customer.pay(lunch.request, coins)
        await customer.take(lunch)
        for amount in (100, 42_000, 210):
            await customer.mint(amount)
        await customer.quote(5_000)
        await operator.audit()


@contextlib.asynccontextmanager
async def bank(directory: Path):
    """`specie up` on a free port over `directory`; gives its URL and the operator's socket."""
    (directory / "bank.toml").write_text(SETTINGS)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SPECIE_")}
    environ |= {"SPECIE_CONFIG": str(directory / "bank.toml"), "XDG_CONFIG_HOME": str(directory / "config")}
    program = Path(sys.executable).with_name("specie")
    arguments = ("up", "--json", "--port", "0", "--data", str(directory / "data"), "--autopay-delay", "0.2")
    process = await asyncio.create_subprocess_exec(
        str(program), *arguments, "--log-level", "warning", env=environ, stdout=asyncio.subprocess.PIPE, cwd=directory
    )
    try:
        assert process.stdout is not None
        text = ""
        async with asyncio.timeout(60):
            while True:
                line = await process.stdout.readline()
                if not line:
                    raise SystemExit("the bank did not start")
                text += line.decode()
                with contextlib.suppress(ValueError):
                    facts = json.loads(text)
                    break
        yield f"http://{facts['host']}:{facts['port']}", Path(facts["admin_socket"])
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def chromium(*arguments: str) -> str:
    """Run a headless browser on a fresh profile; what it wrote."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("no chromium is installed: apt-get install chromium, or set CHROMIUM")
    with tempfile.TemporaryDirectory() as profile:
        command = [program, *CHROMIUM_FLAGS, f"--user-data-dir={profile}", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=90).stdout


def photograph(url: str, target: Path, width: int, scale: int, scheme: int, height: int) -> None:
    """One picture of the page."""
    chromium(
        f"--window-size={width},{height}",
        f"--force-device-scale-factor={scale}",
        f"--blink-settings=preferredColorScheme={scheme}",
        "--timeout=4000",
        f"--screenshot={target}",
        url,
    )


async def main(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bank-") as directory:
        async with bank(Path(directory)) as (url, socket):
            await move_money(url, socket)
            for name, width, height, scale in SHOTS:
                for scheme, number in SCHEMES:
                    picture = target / f"start-{name}-{scheme}.png"
                    await asyncio.to_thread(photograph, url, picture, width, scale, number, height)
                    print(picture)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"))
