"""Makes the start page. Every text of an operator or a peer is escaped here, and nothing else may put text into the page.

The page works without JavaScript; with it, it looks at /status.json every few seconds. Its policy allows the two scripts
and the style sheet by their hashes and nothing more.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from html import escape
from importlib.resources import files

import segno

from specie.ecash.info import MintInfo
from specie.server.board import KeysetLine, QuoteLine, RailLine, Status, UnitLine
from specie.server.ports import BankFacts

__all__ = ["FAVICON", "TOUR", "StartPage"]

TOUR: tuple[tuple[str, str], ...] = (
    ("./specie wallet mint 100", "Ask for an invoice of 100 sat, see it paid, and hold the ecash."),
    ("./specie wallet balance", "What you hold, by mint and unit."),
    ("token=$(./specie wallet send 21)", "Make a token of 21 sat: text to paste, and a QR code in the terminal."),
    ('./specie wallet receive "$token" --name bob', "A second wallet takes it; the mint swaps it, so nobody else can."),
    ("./specie wallet invoice 10 --name bob | ./specie wallet pay -", "Pay bob's invoice out of your ecash."),
    ("./specie wallet words | ./specie wallet restore --name copy", "Bring the wallet back from its twelve words."),
)
"""Command, and what it does: the tour of the README, in the same words (a test compares them)."""

_STATES = {"ok": "All well", "degraded": "Needs a look", "down": "Not well"}
_SEALING = "The keys of this bank are sealed by a random key on its machine: good enough for play money and for nothing else."
_PLACE = re.compile(r"\{\{([a-z_]+)\}\}")
_MAX_TEXT = 2000


def _load(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8").strip()


_HTML, _CSS, _JS, _THEME_JS, _MARK = map(_load, ("start.html", "start.css", "start.js", "theme.js", "mark.svg"))
FAVICON = _MARK.encode()
_ALERT = (
    '<svg viewBox="0 0 24 24" aria-hidden="true">'
    '<path fill="currentColor" d="M12 2 1 21h22zm1 15v2h-2v-2zm0-7v5h-2v-5z"/></svg>'
)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_hash(_THEME_JS)} {_hash(_JS)}",
        f"style-src {_hash(_CSS)}",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


def _text(value: str | None) -> str:
    """Escaped for text and for quoted attributes; control and direction characters and what is too long left out."""
    clean = "".join(char for char in (value or "")[:_MAX_TEXT] if char == "\n" or char.isprintable())
    return escape(clean, quote=True)


@lru_cache(maxsize=8)
def _qr(url: str) -> str:
    target = io.BytesIO()
    segno.make(url, error="m", micro=False).save(
        target,
        kind="svg",
        xmldecl=False,
        svgns=True,
        omitsize=True,
        border=2,
        dark="#1c1a15",
        light=None,
        svgclass=None,
        lineclass=None,
    )
    return target.getvalue().decode().replace("<svg ", '<svg role="img" aria-label="QR code of the mint\'s URL" ', 1)


def _short(keyset_id: str) -> str:
    return keyset_id if len(keyset_id) <= 18 else f"{keyset_id[:10]}…{keyset_id[-4:]}"


class StartPage:
    """The start page of one bank."""

    content_security_policy = _POLICY
    """Value of the header of that name; without it the page is not to be sent."""

    def __init__(self, facts: BankFacts) -> None:
        self._facts = facts

    def render(self, info: MintInfo, status: Status, url: str, *, quotes: bool, near: bool) -> bytes:
        """The page as UTF-8. `url` is the mint's URL for wallets.

        `quotes`: whether this reader may see recent quotes; `near`: whether the bank's own machine's paths may be named.
        """
        facts = self._facts
        sealing = facts.sealing_notice if near or not facts.sealing_notice else _SEALING
        parts = {
            "theme_js": _THEME_JS,
            "css": _CSS,
            "js": _JS,
            "mark": _MARK,
            "alert_mark": _ALERT,
            "name": _text(info.name or "Cashu mint"),
            "state": _text(status.state),
            "state_text": _text(_STATES.get(status.state, status.state)),
            "badges": self._badges(status),
            "description": _paragraph("lede", info.description or "Ecash over Lightning, issued and redeemed by this bank."),
            "motd": _paragraph("motd", info.motd) if info.motd else "",
            "qr": _qr(url[:1000]),
            "url": _text(url),
            "balanced_hidden": " hidden" if status.balanced else "",
            "sealing": f'<p class="notice">{_ALERT}<span>{_text(sealing)}</span></p>' if facts.sealing_notice else "",
            "units": "".join(map(_unit, status.units)),
            "keysets": "".join(map(_keyset, status.keysets)),
            "rails": "".join(map(_rail, status.rails)),
            "quotes": _quotes(status.quotes) if quotes else '<p class="empty">Shown on the bank\'s own machine only.</p>',
            "quotes_note": "without their ids, which are secrets" if quotes else "",
            "tour": "".join(_step(command, says) for command, says in TOUR),
            "version": _text(facts.version),
            "uptime": _text(status.uptime),
        }
        return _PLACE.sub(lambda match: parts[match[1]], _HTML).encode()

    def _badges(self, status: Status) -> str:
        badges = ['<span class="badge">CASHU MINT</span>']
        if self._facts.play:
            badges.append('<span class="badge play">PLAY MONEY: WORTH NOTHING</span>')
        badges += [f'<span class="badge">{_text(line.unit)}</span>' for line in status.units]
        return "".join(badges)


def _paragraph(style: str, text: str) -> str:
    return f'<p class="{style}">{_text(text)}</p>'


def _unit(line: UnitLine) -> str:
    figures = (
        ("assets", "Held on rails", line.assets),
        ("circulation", "Ecash in circulation", line.circulation),
        ("deposits", "Paid in, not yet minted", line.deposits),
        ("income", "Earned", line.income),
    )
    terms = "".join(
        f'<div class="{name}"><dt>{label}</dt><dd data-figure="{name}">{_text(value)}</dd></div>'
        for name, label, value in figures
    )
    bars, start = "", 0
    for name, share in zip(("circulation", "deposits", "income"), line.shares, strict=True):
        bars += f'<rect class="{name}" x="{start / 10}%" width="{share / 10}%" height="10"/>'
        start += share
    return (
        f'<div class="unit" data-unit="{_text(line.unit)}"><dl class="figures">{terms}</dl>'
        f'<div class="cover" aria-hidden="true"><svg>{bars}</svg></div>'
        f'<p>The rails hold <span data-figure="covered">{line.covered}</span> % of what is owed.</p></div>'
    )


def _keyset(line: KeysetLine) -> str:
    return (
        f'<tr{"" if line.active else " class=off"}><td><code title="{_text(line.id)}">{_text(_short(line.id))}</code>'
        f' <span class="badge">{"ACTIVE" if line.active else "RETIRED"}</span></td><td>{_text(line.unit)}</td>'
        f'<td class="wide">{_text(line.fee)}</td><td class="n wide">{_text(line.issued)}</td>'
        f'<td class="n wide">{_text(line.redeemed)}</td><td class="n">{_text(line.outstanding)}</td></tr>'
    )


def _rail(line: RailLine) -> str:
    play = '<span class="badge play">PLAY</span>' if line.play else ""
    says = "answers" if line.ok else "does not answer"
    return (
        f'<li data-ok="{"yes" if line.ok else "no"}"><span class="dot" aria-hidden="true"></span>'
        f'<span class="name">{_text(line.name)}</span><span class="badge">{_text(line.method)}</span>{play}'
        f'<span class="sr">{says}</span><span class="amount">{_text(line.balance)}</span></li>'
    )


def _quotes(lines: Iterable[QuoteLine]) -> str:
    rows = "".join(
        f'<tr><td class="{line.direction}">{"↓ in" if line.direction == "in" else "↑ out"}</td>'
        f'<td class="wide">{_text(line.method)}</td><td class="n">{_text(line.amount)}</td>'
        f'<td>{_text(line.state.lower())}</td><td class="n">{_text(line.age)}</td></tr>'
        for line in lines
    )
    return (
        f'<p class="empty" id="no-quotes"{" hidden" if rows else ""}>None yet. Mint something below.</p>'
        f'<table id="quotes-table"{"" if rows else " hidden"}><thead><tr><th scope="col">Way</th>'
        '<th scope="col" class="wide">Method</th><th scope="col" class="n">Amount</th><th scope="col">State</th>'
        f'<th scope="col" class="n">Age</th></tr></thead><tbody id="quotes">{rows}</tbody></table>'
    )


def _step(command: str, says: str) -> str:
    text = _text(command)
    button = f'<button class="copy" type="button" data-text="{text}" aria-label="Copy: {text}" hidden>Copy</button>'
    words = " ".join(f"<span>{word}</span>" for word in text.split(" "))
    return f"<li><code>{words}</code><span>{_text(says)}</span>{button}</li>"
