"""Write docs/nuts.md, NUT by NUT; with --check, fail if it is stale.

What a mint and a wallet can do is said here with the test that shows it; vectors are counted from tests/vectors. What is
announced is compared with real banks by tests/unit/server/test_flags.py.
"""

from __future__ import annotations

import ast
import json
import re
import runpy
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "nuts.md"
VECTORS = ROOT / "tests" / "vectors"
FLAGS = "tests/unit/server/test_flags.py::"
WALLET = "tests/unit/wallet/"
INTEROP = "tests/interop/"
MET: dict[int, dict[str, str]] = runpy.run_path(str(ROOT / INTEROP / "met.py"))["MET"]
DEFAULT, NONE, METHOD = "by default", "no flag", "as a method of 4 and 5"

HEAD = """\
<!-- Made by scripts/write_nuts.py; do not edit. -->
# Cashu NUTs

What of the [Cashu specification](https://github.com/cashubtc/nuts) is here, NUT by NUT.

- **Mint, wallet**: `yes`, or `–` where that side has nothing to do or nothing is here. The tests that show it stand
  [below](#evidence).
- **Vectors**: records of the specification, of its drafts and of other implementations that the tests run, from
  `tests/vectors`; those that are not run are named [below](#vectors-that-are-not-run).
- **Interop**: what ours was tried against, in `tests/interop`.
- **Announced**: in `/v1/info` of a bank with default settings; with a setting; or nowhere, since the NUT has no flag. A test
  builds banks with many settings and tries each flag over HTTP: what is announced works, and what is not announced is refused.

What the specification leaves open is decided in [0005](adr/0005-choices-the-nuts-leave-open.md).

"""

NOTES = """\

- 04, 05: methods of the rails, in `sat` and `msat` (`mint.units`). With `mint.minting` or `mint.melting` off, 4 or 5 says
  `disabled`; 8 and 15 are not announced then, for nothing is paid.
- 15: where a rail can pay parts; the play rail of BOLT 11 can.
- 17: crosses the processes of a bank on PostgreSQL.
- 19: without time limit, from the store. Melts of methods that take long (`onchain`) are not announced: the same request pays
  once there too, but is answered with the payment as it stands. So is any melt that was asked not to wait (`prefer_async`).
- 20, 29: signatures of version 1 are written; the form before it is accepted too.
- 24: the payer and the paywall are both wallets; see [Paid HTTP](guides/paid-http.md).
- 30: `confirmations` and the least amount are announced with the method.
- Drafts have no number, or none that is final: what they say, and what is announced for them, may change.
"""


@dataclass(frozen=True)
class Row:
    """One NUT. Tests that show a side of it (several with commas), None where there is nothing; peers stand in `met.py`."""

    nut: str
    about: str
    mint: str | None
    wallet: str | None
    announced: str = NONE
    vectors: tuple[str, ...] = ()
    """Files below tests/vectors/cashu, without `.json`; of other folders with it."""


ROWS = (
    Row(
        "00",
        "blinding, tokens",
        "tests/unit/mint/test_swap.py::test_gives_coins_of_the_amounts_asked_for",
        WALLET + "test_end_to_end.py::test_money_goes_round",
        vectors=(
            "error-codes",
            "nut00-blind-signatures",
            "nut00-blinded-messages",
            "nut00-hash-to-curve",
            "nut00-tokens-v3",
            "nut00-tokens-v4",
            "peer-mint-urls",
            "peer-pubkeys",
        ),
    ),
    Row(
        "01",
        "keys",
        "tests/unit/server/test_api.py::test_info_keys_and_keysets",
        WALLET + "test_keysets.py::test_wrong_id_is_left_out",
        vectors=("nut01-keysets", "nut01-minor-units"),
    ),
    Row(
        "02",
        "keysets, fees",
        "tests/unit/mint/test_swap.py::test_takes_the_input_fee_once_for_all_inputs",
        WALLET + "test_keysets.py::test_rotation_moves_everything_off_the_old_keyset",
        vectors=("nut02-fees", "nut02-keyset-ids", "peer-keyset-id-parsing"),
    ),
    Row(
        "03",
        "swap",
        "tests/unit/mint/test_swap.py::test_refuses_a_second_spend",
        WALLET + "test_over_http.py::test_every_verb",
    ),
    Row(
        "04",
        "minting",
        FLAGS + "minting",
        WALLET + "test_methods.py::test_every_deposit_is_seen_and_claimed",
        DEFAULT,
        ("nut04-method-names",),
    ),
    Row(
        "05",
        "melting",
        FLAGS + "melting",
        WALLET + "test_over_http.py::test_every_verb",
        DEFAULT,
    ),
    Row(
        "06",
        "what a mint says of itself",
        FLAGS + "array_length",
        WALLET + "test_methods.py::test_a_method_that_is_not_announced_is_not_asked_for",
    ),
    Row(
        "07",
        "state of coins",
        FLAGS + "state",
        WALLET + "test_receive.py::test_offline_coins_that_were_spent_meanwhile",
        DEFAULT,
    ),
    Row(
        "08",
        "change of fees",
        FLAGS + "change",
        WALLET + "test_payments.py::test_wrong_change_is_a_fault_and_loses_nothing",
        DEFAULT,
        ("nut08-blank-outputs",),
    ),
    Row(
        "09",
        "restore",
        FLAGS + "restore",
        WALLET + "test_restore.py::test_restores_the_balance_over_all_keysets",
        DEFAULT,
    ),
    Row(
        "10",
        "spending conditions",
        FLAGS + "conditions",
        WALLET + "test_receive.py::test_no_lock_at_a_mint_that_does_not_enforce_it",
        DEFAULT,
        ("nut10-tags", "peer-nut10-secrets"),
    ),
    Row(
        "11",
        "P2PK",
        FLAGS + "p2pk",
        WALLET + "test_receive.py::test_locked_to_a_key",
        DEFAULT,
        ("nut11-key-canonicalisation", "nut11-p2pk-proofs", "nut11-sig-all"),
    ),
    Row(
        "12",
        "DLEQ",
        FLAGS + "proofs",
        WALLET + "test_receive.py::test_forged_dleq_is_refused_online_and_offline",
        DEFAULT,
        ("nut12-dleq",),
    ),
    Row(
        "13",
        "secrets from words",
        None,
        WALLET + "test_restore.py::test_restored_wallet_never_uses_a_secret_twice",
        NONE,
        ("nut13-deterministic-secrets",),
    ),
    Row(
        "14",
        "HTLC",
        FLAGS + "htlc",
        WALLET + "test_receive.py::test_hash_lock",
        DEFAULT,
        ("nut14-htlc", "peer-htlc-preimages"),
    ),
    Row(
        "15",
        "payments in parts",
        "tests/unit/mint/test_melt_methods.py::test_two_mints_pay_one_invoice_together",
        WALLET + "test_real_methods.py::test_three_mints_pay_one_invoice",
        DEFAULT,
    ),
    Row(
        "16",
        "animated QR codes",
        None,
        "tests/unit/cli/test_frames.py::test_png_frames_read_by_a_qr_reader_are_the_token",
        NONE,
        ("ur.json",),
    ),
    Row(
        "17",
        "WebSocket",
        FLAGS + "news",
        WALLET + "test_news.py::test_news_that_are_not_announced_are_polled_for",
        DEFAULT,
    ),
    Row(
        "18",
        "payment requests",
        None,
        WALLET + "test_requests.py::test_request_is_paid_in_band_and_redeemed",
        NONE,
        ("nut18-payment-requests", "draft-nut18-nut26-preferences", "peer-payment-requests"),
    ),
    Row(
        "19",
        "same request, same answer",
        FLAGS + "cached",
        WALLET + "test_batch.py::test_a_lost_batch_is_sent_again_to_the_byte",
        DEFAULT,
    ),
    Row(
        "20",
        "locked mint quotes",
        FLAGS + "locked_quotes",
        WALLET + "test_derived_keys.py::test_a_quote_paid_while_the_wallet_was_lost",
        DEFAULT,
        ("nut20-mint-quote-signatures", "draft-nut20-nut29-signature-v1"),
    ),
    Row(
        "21",
        "logins",
        FLAGS + "logins",
        WALLET + "test_auth.py::test_a_login_alone_where_no_blind_tokens_are_asked_for",
        "with `mint.auth.openid_discovery`",
        ("nut21-path-matching",),
    ),
    Row(
        "22",
        "blind logins",
        FLAGS + "blind_logins",
        WALLET + "test_auth.py::test_every_verb_with_blind_tokens",
        "with `mint.auth.blind_endpoints`",
    ),
    Row(
        "23",
        "BOLT 11",
        FLAGS + "melting",
        WALLET + "test_real_methods.py::test_payments_of_every_method",
        METHOD,
        ("bolt11.json", "peer-bolt11-amounts"),
    ),
    Row("24", "HTTP 402", None, "tests/e2e/test_paid_http.py::test_client_proxy_upstream"),
    Row(
        "25",
        "BOLT 12",
        "tests/unit/mint/test_deposits.py::test_an_offer_is_paid_and_issued_in_parts",
        WALLET + "test_real_methods.py::test_payments_of_every_method",
        METHOD,
        ("bolt12.json",),
    ),
    Row(
        "26",
        "payment requests in bech32m",
        None,
        "tests/vectors/test_requests.py::test_creq_b",
        NONE,
        ("nut26-payment-requests",),
    ),
    Row(
        "27",
        "backup of the list of mints",
        None,
        WALLET + "test_mint_list.py::test_another_device_finds_the_mints",
        vectors=("nut27-backup-keys",),
    ),
    Row(
        "28",
        "pay to blinded key",
        None,
        WALLET + "test_blinded_locks.py::test_locked_to_a_blinded_key",
        NONE,
        ("nut28-p2bk",),
    ),
    Row(
        "29",
        "batches",
        FLAGS + "batches",
        WALLET + "test_batch.py::test_paid_quotes_are_minted_together",
        DEFAULT,
        ("nut29-batch-mint",),
    ),
    Row(
        "30",
        "on-chain",
        "tests/unit/mint/test_melt_methods.py::test_an_onchain_payment_from_its_quote_to_its_end",
        WALLET + "test_real_methods.py::test_deposits_of_every_method_and_a_reorganisation",
        METHOD,
    ),
    Row(
        "draft 388",
        "proof of liabilities",
        FLAGS + "liabilities",
        WALLET + "test_liabilities.py::test_an_honest_mint_passes",
        "with `mint.liabilities`, as `388`",
        vectors=("draft-liabilities",),
    ),
    Row(
        "draft 341",
        "mint quotes by public key",
        FLAGS + "quote_lookup",
        WALLET + "test_deposits.py::test_a_pool_pays_and_the_owner_claims",
        "with `mint.quote_lookup`, as `XX`",
    ),
)

SPREAD = ("draft-derived-keys", "peer-json-shapes", "spec-json-examples")
"""Files whose records belong to several NUTs, and say to which."""


def main() -> int:
    """Write or compare; 1 if it is stale or names a test that is not there."""
    named = [one for row in ROWS for names in (row.mint, row.wallet, *met(row).values()) if names for one in names.split(", ")]
    missing = [one for one in named if not _is_there(one)]
    if missing:
        print("no such test: " + ", ".join(missing))
        return 1
    text = page()
    if TARGET.exists() and TARGET.read_text() == text:
        return 0
    if "--check" in sys.argv:
        print("stale, run scripts/write_nuts.py: docs/nuts.md")
        return 1
    TARGET.write_text(text)
    print("written: docs/nuts.md")
    return 0


def met(row: Row) -> dict[str, str]:
    """The peers that a NUT is met with, each with the test: what tests/interop/met.py says."""
    found = MET.get(int(row.nut), {}) if row.nut.isdigit() else {}
    return {peer: INTEROP + "{}.py::{}".format(*test.split("::")) for peer, test in found.items()}


def _is_there(evidence: str) -> bool:
    file, name = evidence.split("::")
    path = ROOT / file
    return path.is_file() and re.search(rf"^(async )?def {name}\(", path.read_text(), re.MULTILINE) is not None


def page() -> str:
    """The whole page."""
    counts, skipped = _counts()
    head = "| NUT | about | mint | wallet | vectors | interop | announced |\n|---|---|---|---|---:|---|---|\n"
    table = "".join(
        f"| {row.nut} | {row.about} | {_said(row.mint)} | {_said(row.wallet)} | {counts[row.nut] or '–'} "
        f"| {', '.join(met(row)) or '–'} | {row.announced} |\n"
        for row in ROWS
    )
    proof = "\n## Evidence\n\nA test that shows each; `–` where there is nothing to show.\n\n"
    proof += "| NUT | mint | wallet | interop |\n|---|---|---|---|\n"
    proof += "".join(
        f"| {row.nut} | {_named(row.mint)} | {_named(row.wallet)} | {_named(', '.join(dict.fromkeys(met(row).values())))} |\n"
        for row in ROWS
    )
    left = "\n## Vectors that are not run\n\n| records | reason |\n|---|---|\n"
    for reason in dict.fromkeys(reason for _, reason in skipped):
        left += f"| {', '.join(f'`{name}`' for name, why in skipped if why == reason)} | {reason} |\n"
    return HEAD + head + table + NOTES + proof + left


def _said(evidence: str | None) -> str:
    return "yes" if evidence else "–"


def _named(evidence: str | None) -> str:
    return ", ".join(f"`{one}`" for one in evidence.split(", ")) if evidence else "–"


def _counts() -> tuple[Counter[str], list[tuple[str, str]]]:
    """Records that are run for each NUT, and those that are not, each with its reason."""
    counts: Counter[str] = Counter()
    skipped: list[tuple[str, str]] = []
    for row in ROWS:
        counts[row.nut] += sum(_length(name) for name in row.vectors)
    reasons = _reasons()
    for record in _records("spec-json-examples"):
        if record["id"] in reasons:
            skipped.append((record["id"], reasons[record["id"]]))
        else:
            counts[record["nut"]] += 1
    for record in _records("peer-json-shapes"):
        counts[record["nut"].rpartition("/")[2]] += 1
    for record in _records("draft-derived-keys"):
        if record["scheme"] == "bip32":
            counts[re.findall(r"NUT-(\d\d)", record["use"])[0]] += 1
        else:
            skipped.append((record["id"], "a derivation by HMAC that was proposed and never merged"))
    named = {name for row in ROWS for name in row.vectors} | set(SPREAD)
    unnamed = {path.stem for path in (VECTORS / "cashu").glob("*.json")} - named
    if unnamed:
        raise LookupError(f"vectors of no NUT: {sorted(unnamed)}")
    return counts, skipped


def _records(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / "cashu" / f"{name}.json").read_text())["records"]
    return found


def _length(name: str) -> int:
    if not name.endswith(".json"):
        return len(_records(name))
    whole = json.loads((VECTORS / name).read_text())
    return len(whole["records"]) if "records" in whole else len([key for key in whole if key != "source"])


def _reasons() -> dict[str, str]:
    """Why examples of the specification are not read: as tests/vectors/test_ecash.py has it."""
    for node in ast.parse((VECTORS / "test_ecash.py").read_text()).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "EXAMPLES":
            found: dict[str, str] = ast.literal_eval(node.value)  # type: ignore[arg-type]
            return found
    raise LookupError("EXAMPLES is not there")


if __name__ == "__main__":
    sys.exit(main())
