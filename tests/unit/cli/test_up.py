"""`specie up` in this process: announced, asked through its socket, drained."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from specie.server import AdminClient, admin_client

pytestmark = pytest.mark.network


def _while_up(data: Path, ask: Callable[[AdminClient], Any]) -> tuple[threading.Thread, list[Any]]:
    """A thread that waits for the bank's socket, asks, and has the bank stop."""
    heard: list[Any] = []

    async def work() -> None:
        async with admin_client(data / "admin.sock") as client:
            try:
                heard.append(await ask(client))
            finally:
                await client.stop()

    def wait() -> None:
        for _ in range(2000):
            if (data / "admin.sock").exists():
                break
            time.sleep(0.01)
        time.sleep(0.2)  # bound, and soon listened on
        asyncio.run(work())

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, heard


def test_a_bank_is_announced_asked_and_drained(specie, home) -> None:  # type: ignore[no-untyped-def]
    """The announcement tells where it is and what its money is; the operator's stop is a clean end."""
    data = home / "bank"
    thread, heard = _while_up(data, lambda client: client.health())
    ran = specie("up", "--port", "0", "--data", str(data), "--no-autopay", "--autopay-delay", "1", "--log-level", "warning")
    thread.join()
    assert ran.code == 0
    for part in ("PLAY MONEY", "http://127.0.0.1:", str(data)[:40], "specie wallet mint 100", "Ctrl-C"):
        assert part in ran.out.replace("\n        ", "")
    assert "stopping" in ran.err
    assert "books are closed" in ran.err
    assert heard[0]["state"] == "ok"


def test_programs_get_one_line_of_json_at_the_start(specie, home) -> None:  # type: ignore[no-untyped-def]
    """URL, port, directories, and how the keys are sealed."""
    data = home / "bank"
    thread, heard = _while_up(data, lambda client: client.books())
    ran = specie("up", "--json", "--port", "0", "--data", str(data))
    thread.join()
    facts = json.loads(ran.out)
    assert (ran.code, facts["play"], facts["sealing"], facts["created"]) == (0, True, "play-key", True)
    assert facts["port"] > 0
    assert heard == [{"units": [], "accounts": []}]


def test_the_settings_file_is_read_once(specie, home, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A file that changes as soon as it was read: the bank that starts remembers what it runs with."""
    from specie.ops import config

    data, file, read = home / "bank", home / "bank.toml", config.read_content
    file.write_text('[mint]\nname = "one"\n[reload]\nwatch_s = 0\n')

    def edited(place: Path) -> bytes:
        content = read(place)
        file.write_text('[mint]\nname = "two"\n')
        return content

    monkeypatch.setattr(config, "read_content", edited)
    thread, heard = _while_up(data, lambda client: client.revision(1))
    ran = specie("up", "--port", "0", "--data", str(data), "--config", str(file))
    thread.join()
    assert ran.code == 0
    assert heard[0]["document"]["mint"] == {"name": "one"}
    assert heard[0]["settings"]["mint.name"] == '"one"'
