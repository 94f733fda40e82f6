"""`specie keys ...`: where keys may live, and what a token can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from specie.cli.arguments import ScreenArgument

__all__ = ["app"]

app = App(name="keys", help="Where keys may live: providers, and a trial of a token.", help_epilogue="")


@app.command
def providers(*, screen: ScreenArgument) -> None:
    """What can hold keys, and what is known of each device: what was run here, and what its maker says."""
    from dataclasses import asdict

    from rich.text import Text

    from specie.cli.screen import table
    from specie.keys.profiles import PROFILES, UNTESTED

    rows = [
        (
            one.name,
            one.mint,
            one.curves,
            one.mechanisms,
            one.limits,
            Text(one.evidence, "yellow" if one.evidence == UNTESTED else "green"),
        )
        for one in PROFILES
    ]
    columns = ("provider", "keys of a mint", "curves", "mechanisms", "limits", "evidence")
    screen.answer(
        {"providers": [asdict(one) for one in PROFILES]},
        table(columns, rows),
        "[dim]Untested devices are described by what their makers publish; specie keys probe tells what yours does.[/dim]",
    )


@app.command
async def probe(
    *,
    module: Annotated[Path | None, Parameter(help="The PKCS#11 module of the device, a shared library.")] = None,
    token: Annotated[str | None, Parameter(help="Label of the token.")] = None,
    pin_file: Annotated[Path | None, Parameter(help="File with the PIN (or SPECIE_KEYS_PKCS11_PIN).")] = None,
    rounds: Annotated[int, Parameter(help="Signatures of each kind that are made.")] = 20,
    config: Annotated[Path | None, Parameter(help="Settings file; bank.toml in your config home if it exists.")] = None,
    screen: ScreenArgument,
) -> None:
    """Try out a token: what it can do, whether its signatures are right, and how long they take.

    It makes keys for the moment and destroys them. Keys that are in the token are not touched.
    """
    import os
    from statistics import median

    from rich.text import Text

    from specie.app.keys import probe_token
    from specie.cli.errors import UsageError
    from specie.cli.screen import shown, table
    from specie.ops.config import load_settings

    if not 1 <= rounds <= 10_000:
        raise UsageError("--rounds is from 1 to 10,000")
    given = {"keys.pkcs11.module": module, "keys.pkcs11.token": token, "keys.pkcs11.pin_file": pin_file}
    settings = load_settings(config, os.environ, given).keys.pkcs11
    with screen.progress("asking the token"):
        found = await probe_token(settings, rounds=rounds)
    can, trial = found.capabilities, found.trial
    abilities = {
        "blind signatures": can.bdhke,
        "ECDSA": can.ecdsa,
        "wrapping (AES-GCM)": can.wrapping,
        "DLEQ (NUT-12)": can.dleq,
        "BIP 340": can.bip340,
        "derivation (NUT-13)": can.derivation,
    }
    times = {}
    if trial is not None:
        times["ECDSA"] = trial.ecdsa_us
        if trial.blind_us is not None:
            times["blind signature"] = trial.blind_us
    facts = {
        "module": str(settings.module),
        "token": settings.token,
        "manufacturer": found.facts.manufacturer,
        "model": found.facts.model,
        "curves": sorted(can.curves),
        "capabilities": {name: getattr(can, name) for name in ("bdhke", "ecdsa", "wrapping", "dleq", "bip340", "derivation")},
        "mechanisms": sorted(found.facts.mechanisms),
        "rounds": rounds,
        "latency_us": {name: {"median": round(median(each)), "worst": round(max(each))} for name, each in times.items()},
    }
    rows = [(name, Text("yes", "green") if able else Text("no", "dim")) for name, able in abilities.items()]
    latency = [(name, f"{median(each) / 1000:.2f} ms", f"{max(each) / 1000:.2f} ms") for name, each in times.items()]
    verdict = (
        Text("✓ keys of a mint can live here, without DLEQ; every signature was checked", "green")
        if can.bdhke
        else Text("✗ keys of a mint cannot live here: no ECDH on secp256k1 that gives x alone", "yellow")
    )
    name = f"{found.facts.manufacturer} {found.facts.model}, token {settings.token}"
    screen.answer(
        facts,
        verdict,
        Text(shown(name)),
        table(("it can", ""), rows),
        table(("what", ("median", "right"), ("worst", "right")), latency) if latency else "",
    )
