"""The start page, its figures, health and metrics: true, escaped, and not more open than meant."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import msgspec
import pytest

from specie.ecash import MintInfo
from specie.ops.settings import ServerSettings
from specie.server.board import Status, age
from specie.server.pages import StartPage
from specie.server.pages.start import TOUR
from specie.server.ports import BankFacts, RailFacts


class Page(HTMLParser):
    """Tags, text, scripts and styles of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.words = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside in self.raw:
            self.raw[self._inside].append(data)
        else:
            self.words += data


async def page_of(served, **changes) -> tuple[Page, str, str]:
    if changes:
        served.rebuild(**changes)
    answer = await served.client().get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer.text), answer.text, answer.headers["content-security-policy"]


async def test_it_shows_the_bank(served):
    """Name, motd, books, rail with its PLAY badge, keyset, quotes, tour, version, links; no quote id."""
    await served.purse.mint(1000)
    quote = await served.purse.melt_quote((await served.house.mint.request_mint_quote(_request(21))).request)
    page, text, _ = await page_of(served)
    words = page.words
    assert "Test <b>bank</b>" in words
    assert "Hello & <script>alert(1)</script>" in words
    assert "1,000 sat" in words
    assert "PLAY" in words
    keyset = served.house.keyset()
    assert any(attributes.get("title") == keyset.id for tag, attributes in page.tags if tag == "code")
    assert "21 sat" in words
    assert quote.quote not in text
    assert quote.quote[:13] not in text
    for command, _ in TOUR:
        assert command in words
        assert any(attributes.get("data-text") == command for tag, attributes in page.tags if tag == "button")
    links = {attributes.get("href") for tag, attributes in page.tags if tag == "a"}
    assert {"v1/info", "metrics", "healthz"} <= links
    assert "specie 9" in words
    assert "http://127.0.0.1:3338" in words
    assert any(attributes.get("role") == "img" for tag, attributes in page.tags if tag == "svg")


async def test_nothing_is_loaded_from_elsewhere_and_the_policy_allows_only_what_is_there(served):
    """Each script and style has its hash in the policy; no URL of another host, no handler, no style attribute."""
    page, text, policy = await page_of(served)
    for kind in ("script", "style"):
        assert page.raw[kind]
        for body in page.raw[kind]:
            digest = base64.b64encode(sha256(body.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href"):
            assert not re.match(r"[a-z]+:|//", attributes.get(name) or ""), attributes
    assert not re.search(r"url\(|@import", text)


async def test_no_text_of_an_operator_becomes_markup(served):
    """Every place that shows a foreign text is filled with markup, and none of it becomes a tag."""
    hostile = "\"'><img src=x onerror=alert(1)>{{css}}\u202e\x00"

    def fill(kind):
        return {"str": hostile, "bool": True, "int": 7}.get(getattr(kind, "__name__", ""), (700, 200, 100))

    def lines(struct):
        return (struct(**{field.name: fill(field.type) for field in msgspec.structs.fields(struct)}),)

    from specie.server.board import KeysetLine, QuoteLine, RailLine, UnitLine

    status = Status("down", False, hostile, lines(UnitLine), lines(KeysetLine), lines(RailLine), lines(QuoteLine))
    facts = BankFacts(hostile, (RailFacts(hostile, hostile, True),), sealing_notice=hostile)
    info = MintInfo(name=hostile, description=hostile, motd=hostile)
    text = StartPage(facts).render(info, replace_direction(status), "http://x/" + hostile, quotes=True, near=True).decode()
    page = Page(text)
    assert "img" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "{{css}}" in page.words
    assert "\u202e" not in text
    assert page.words.count("onerror=alert(1)") >= 12


def replace_direction(status):
    return msgspec.structs.replace(status, quotes=tuple(msgspec.structs.replace(q, direction="out") for q in status.quotes))


def _request(amount):
    from specie.ecash import MintQuoteRequest

    return MintQuoteRequest("bolt11", "sat", amount)


async def test_notices_stand_where_they_are_due(served):
    """Sealing is told if there is something to tell; a bank of real money hides quotes from others."""
    page, _, _ = await page_of(served)
    assert "sealing key" not in page.words
    facts = replace(
        served.context.facts, sealing_notice="A random sealing key in /home/x is used.", public_url="https://mint.example"
    )
    page, _, _ = await page_of(served, facts=facts)
    assert "random sealing key" in page.words
    assert "https://mint.example" in page.words
    others = Page((await served.client("203.0.113.9").get("/")).text).words
    assert "/home/x" not in others
    assert "sealed by a random key" in others
    await served.house.mint.request_mint_quote(_request(21))
    served.house.clock.skip(5)
    real = replace(facts, rails=(RailFacts("lnd", "bolt11", False),))
    served.rebuild(facts=real)
    assert "PLAY" not in Page((await served.client().get("/")).text).words
    assert (await served.client().get("/status.json")).json()["quotes"]
    far = served.client("203.0.113.9")
    assert "own machine only" in Page((await far.get("/")).text).words
    assert (await far.get("/status.json")).json()["quotes"] == []


@pytest.mark.parametrize("host", ['x"><script>', "a b", "evil.example/path", "", "[::1", "x:123456"])
async def test_a_hostile_host_header_is_not_shown(served, host):
    """The URL falls back to the address that was asked."""
    answer = await served.client(host=host).get("/")
    assert host == "" or f"://{host}<" not in answer.text
    assert "<script>" not in answer.text.split("<body>")[1].split("<footer>")[0]


async def test_status_json_has_the_figures_of_the_books(served):
    """Amounts as text, no ids of quotes, read from the store at most once a second."""
    await served.purse.mint(100)
    client = served.client()
    status = (await client.get("/status.json")).json()
    assert status["units"] == [
        {
            "unit": "sat",
            "assets": "100 sat",
            "circulation": "100 sat",
            "deposits": "0 sat",
            "income": "0 sat",
            "covered": 100,
            "shares": [1000, 0, 0],
        }
    ]
    assert status["state"] == "ok"
    assert status["balanced"] is True
    assert status["keysets"][0]["outstanding"] == "100 sat"
    assert status["rails"][0]["play"] is True
    assert status["quotes"][0].keys() == {"direction", "method", "amount", "state", "age"}
    await served.purse.mint(1)
    assert (await client.get("/status.json")).json() == status
    served.house.clock.skip(1)
    assert (await client.get("/status.json")).json()["units"][0]["assets"] == "101 sat"


async def test_books_that_do_not_balance_are_shown(served):
    """The page says so in words, and the state is down."""
    from specie.ledger import Books

    class Wrong:
        def __getattr__(self, name):
            return getattr(served.house.mint, name)

        async def books(self):
            return Books({("asset:rail/play", "sat"): 5, ("liability:deposit/bolt11", "sat"): -4})

    page, _text, _ = await page_of(served, mint=Wrong())
    assert (await served.client().get("/status.json")).json()["state"] == "down"
    alert = next(attributes for tag, attributes in page.tags if attributes.get("id") == "unbalanced")
    assert "hidden" not in alert
    assert served.metrics.counter_value("unbalanced") >= 1


async def test_health_for_the_operator_and_for_others(served):
    """Details on the bank's machine; only the state for others, unless they may see."""
    served.house.telemetry.pages.clear()

    async def fine():
        return {"engine": "sqlite"}

    async def bad():
        raise ZeroDivisionError

    served.context.health.add("store", fine)
    near, far = served.client(), served.client("203.0.113.9")
    assert (await near.get("/livez")).json() == {"alive": True}
    assert (await near.get("/readyz")).json() == {"ready": True}
    report = (await near.get("/healthz")).json()
    assert report["checks"][0]["facts"] == {"engine": "sqlite"}
    assert (await far.get("/healthz")).json() == {"state": "ok", "ready": True}
    served.context.health.add("rail", bad)
    assert (await near.get("/healthz")).status_code == 503
    assert (await near.get("/readyz")).status_code == 503
    served.rebuild(settings=ServerSettings(metrics_public=True))
    far = served.client("203.0.113.9")
    assert "checks" in (await far.get("/healthz")).json()
    assert (await far.get("/metrics")).status_code == 200


async def test_metrics_have_real_figures_and_are_not_public(served):
    """Books, requests by route, process; refused to other machines, also through an unknown proxy."""
    await served.purse.mint(100)
    client = served.client()
    await client.get("/v1/info")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    keyset = served.house.keyset()
    assert f'specie_ecash_outstanding{{keyset="{keyset.id}",unit="sat"}} 100.0' in answer.text
    assert 'specie_ledger_balance{account="asset:rail/play",unit="sat"} 100.0' in answer.text
    assert 'specie_http_request_seconds_count{method="GET",route="/v1/info",status="200"} 1.0' in answer.text
    assert "specie_http_in_flight 1.0" in answer.text
    assert "specie_sockets_open 0.0" in answer.text
    assert (await served.client("203.0.113.9").get("/metrics")).status_code == 400
    assert (await client.get("/metrics", headers={"x-forwarded-for": "127.0.0.1"})).status_code == 400


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("localhost:3338", True),
        ("127.0.0.1", True),
        ("[::1]:3338", True),
        ("[::1]", True),
        ("rebound.example", False),
        ("rebound.example:3338", False),
        ("10.0.0.1:3338", False),
    ],
)
async def test_a_foreign_name_for_this_machine_is_not_trusted(served, host, near):
    """A page elsewhere whose name resolves to loopback reads no more than any stranger."""
    answer = await served.client(host=host).get("/metrics")
    assert answer.status_code == (200 if near else 400)


async def test_small_things(served):
    """Icon, robots, preflight, HEAD, and no cross-origin reading of the site."""
    client = served.client()
    assert (await client.get("/favicon.svg")).headers["content-type"] == "image/svg+xml"
    assert "Disallow" in (await client.get("/robots.txt")).text
    options = await client.options("/")
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert "access-control-allow-origin" not in options.headers
    head = await client.head("/")
    assert head.content == b""
    assert head.headers["x-frame-options"] == "DENY"
    assert (await client.post("/status.json")).status_code == 405


def test_ages():
    """A span in one unit."""
    assert [age(value) for value in (-1, 0, 59, 60, 3599, 3600, 86400 * 3)] == [
        "0 s",
        "0 s",
        "59 s",
        "1 min",
        "59 min",
        "1 h",
        "3 d",
    ]
