"""Two states of one wallet made one, table by table: what a backup, or another device's copy, adds to what is here. Pure.

What is certain wins over what is not: a coin SPENT, an operation DONE or FAILED, a token CLAIMED, a quote PAID. Counters take
the maximum. A coin that only the other side calls free, or whose operation is not open any more, is PENDING until its mint has
been asked (`check_pending` does): nothing is shown as free to spend on an old copy's word. Nothing here is ever dropped but the
outputs of operations that are DONE.

Every table of the wallet has a rule in `RULES`; a house test fails where one is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from specie.kernel.errors import InvariantError
from specie.storage.ports import Value

__all__ = ["RULES", "Changes", "MergeReport", "Record", "TableCount", "TableRule", "Tables", "merge_tables"]

Record = dict[str, Value]
"""One row, by column."""

Tables = Mapping[str, Sequence[Record]]
"""A wallet's rows, by table."""

_Key = tuple[Value, ...]
_Indexed = dict[str, dict[_Key, Record]]


@dataclass(frozen=True, slots=True)
class TableRule:
    """How rows of a table are told apart, what becomes of one that both have, and of one that only the other side has."""

    key: tuple[str, ...]
    unite: Callable[[Record, Record], Record]
    """(ours, theirs) -> the row that stays."""
    arrive: Callable[[Record], Record] = dict
    needed: bool = True
    """Whether a backup without a row is incomplete. What a wallet sees of the world again by itself is not needed."""


@dataclass(slots=True)
class Changes:
    """What has to be written into a table: rows to insert or replace (by key), and keys of rows to remove."""

    rows: list[Record] = field(default_factory=list)
    removed: list[_Key] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TableCount:
    """What a merge did to one table: rows there were here and on the other side, rows that came and rows that changed."""

    table: str
    ours: int
    theirs: int
    added: int
    changed: int


@dataclass(slots=True)
class MergeReport:
    """What a merge did. `to_ask`: coins whose mint must be asked before they are free; `notes`: conflicts, for people."""

    tables: list[TableCount] = field(default_factory=list)
    to_ask: int = 0
    notes: list[str] = field(default_factory=list)


def _number(value: Value) -> int:
    return -1 if value is None else int(str(value))


def _ours(ours: Record, theirs: Record) -> Record:
    """The row we have; empty columns are filled."""
    return {name: theirs.get(name) if value is None else value for name, value in ours.items()}


def _as_it_is(ours: Record, theirs: Record) -> Record:
    """The row we have, whose empty columns mean something."""
    return dict(ours)


def _latest(column: str) -> Callable[[Record, Record], Record]:
    """The row whose `column` is greater; empty columns of it are filled."""

    def unite(ours: Record, theirs: Record) -> Record:
        return _ours(theirs, ours) if _number(theirs[column]) > _number(ours[column]) else _ours(ours, theirs)

    return unite


def _highest(*columns: str) -> Callable[[Record, Record], Record]:
    """The row we have, with the greater number in each of these columns."""

    def unite(ours: Record, theirs: Record) -> Record:
        return _ours(ours, theirs) | {name: max(ours[name], theirs[name], key=_number) for name in columns}

    return unite


def _ranked(column: str, *ranks: str) -> Callable[[Record, Record], Record]:
    """The row whose `column` comes later in `ranks`."""

    def unite(ours: Record, theirs: Record) -> Record:
        rank = ranks.index
        return _ours(theirs, ours) if rank(str(theirs[column])) > rank(str(ours[column])) else _ours(ours, theirs)

    return unite


def _mint(ours: Record, theirs: Record) -> Record:
    latest = _latest("refreshed_at")(ours, theirs)
    return latest | {"position": ours["position"], "added_at": min(ours["added_at"], theirs["added_at"], key=_number)}


def _mint_quote(ours: Record, theirs: Record) -> Record:
    latest = _latest("updated_at")(ours, theirs)
    amounts = {name: max(ours[name], theirs[name], key=_number) for name in ("amount_paid", "amount_issued")}
    return latest | amounts | {"created_at": min(ours["created_at"], theirs["created_at"], key=_number)}


def _operation(ours: Record, theirs: Record) -> Record:
    if ours["state"] == theirs["state"]:
        return _latest("updated_at")(ours, theirs)
    return _ranked("state", "OPEN", "FAILED", "DONE")(ours, theirs)


def _coin_rank(coin: Record) -> tuple[int, str]:
    """How much a row knows about its coin; the text decides between equals, alike on both sides."""
    match coin["state"]:
        case "SPENT":
            return 4, ""
        case "PENDING" if coin["token"] is not None:
            return 3, str(coin["token"])
        case "RESERVED":
            return 2, str(coin["operation"])
        case "PENDING":
            return 1, ""
    return 0, ""


def _coin(ours: Record, theirs: Record) -> Record:
    base, other = (theirs, ours) if _coin_rank(theirs) > _coin_rank(ours) else (ours, theirs)
    kept = ("state", "operation", "token")
    return _ours(base, other) | {name: base[name] for name in kept} | _times(ours, theirs)


def _times(ours: Record, theirs: Record) -> Record:
    return {
        "created_at": min(ours["created_at"], theirs["created_at"], key=_number),
        "changed_at": max(ours["changed_at"], theirs["changed_at"], key=_number),
        "unswapped": max(ours["unswapped"], theirs["unswapped"], key=_number),
    }


def _coin_arrives(coin: Record) -> Record:
    return coin | {"state": "PENDING"} if coin["state"] == "UNSPENT" else dict(coin)


def _request_payment(ours: Record, theirs: Record) -> Record:
    """What was delivered stays delivered."""
    delivered = theirs["delivered_at"] is not None and ours["delivered_at"] is None
    return _ours(theirs, ours) | {"single": ours["single"]} if delivered else _ours(ours, theirs)


def _blind_token_arrives(token: Record) -> Record:
    """It may have been spent since: those are deleted, so only the mint knows."""
    return dict(token) if token["state"] == "ASKED" else token | {"state": "UNCERTAIN"}


def _taking(ours: Record, theirs: Record) -> Record:
    further = _ranked("state", "BEGUN", "TAKEN")(ours, theirs)
    return further | {"deliveries": max(ours["deliveries"], theirs["deliveries"], key=_number)}


RULES: dict[str, TableRule] = {
    "wallet_mint": TableRule(("url",), _mint),
    "wallet_keyset": TableRule(("id",), _ours),
    "wallet_counter": TableRule(("mint", "keyset"), _highest("next")),
    "wallet_key_index": TableRule(("purpose",), _highest("next")),
    "wallet_key": TableRule(("purpose", "number"), _ours),
    "wallet_operation": TableRule(("id",), _operation),
    "wallet_output": TableRule(("operation", "position"), _ours),
    "wallet_proof": TableRule(("y",), _coin, _coin_arrives),
    "wallet_mint_quote": TableRule(("mint", "quote"), _mint_quote),
    "wallet_melt_quote": TableRule(("mint", "quote"), _ranked("state", "UNPAID", "PENDING", "PAID")),
    "wallet_token": TableRule(("id",), _ranked("state", "PENDING", "CLAIMED", "RECLAIMED")),
    "wallet_history": TableRule(("id",), _ours),
    "wallet_secret": TableRule(("name",), _latest("changed_at")),
    "wallet_blind_token": TableRule(
        ("secret",), _ranked("state", "ASKED", "READY", "RESERVED", "UNCERTAIN"), _blind_token_arrives
    ),
    "wallet_claim": TableRule(("operation", "position"), _ours),
    "wallet_payment": TableRule(("id",), _ours),
    "wallet_payment_part": TableRule(("payment", "position"), _ours),
    "wallet_transfer": TableRule(("id",), _ranked("state", "PAYING", "FAILED", "PAID", "DONE")),
    "wallet_leaving": TableRule(("mint",), _ours),
    "wallet_health": TableRule(("mint",), _as_it_is, needed=False),
    "wallet_target": TableRule(("mint", "unit"), _as_it_is),
    "wallet_policy": TableRule(("name",), _ours),
    "wallet_request": TableRule(("id",), _ours),
    "wallet_request_receipt": TableRule(("id",), _ours),
    "wallet_request_payment": TableRule(("id",), _request_payment),
    "wallet_liability": TableRule(("mint",), _ours),
    "wallet_liability_leaf": TableRule(("mint", "side", "item"), _ours),
    "wallet_evidence": TableRule(("id",), _ours),
    "wallet_taking": TableRule(("name",), _taking),
    "wallet_toll": TableRule(("id",), _ranked("state", "BEGUN", "SENT", "BACK", "SPENT")),
}
"""The rule of every table of the wallet, in the order in which they are written."""


def _indexed(tables: Tables) -> _Indexed:
    strange = set(tables) - set(RULES)
    if strange:
        raise InvariantError(f"no rule says how to merge the table {min(strange)}")
    return {
        name: {tuple(row[column] for column in rule.key): dict(row) for row in tables.get(name, ())}
        for name, rule in RULES.items()
    }


def merge_tables(ours: Tables, theirs: Tables) -> tuple[dict[str, Changes], MergeReport]:
    """What to write so that `ours` has everything that `theirs` has, and a report. InvariantError for a table without a rule.

    Both have the present schema. Merging the same again changes nothing more.
    """
    mine, other = _indexed(ours), _indexed(theirs)
    merged: _Indexed = {}
    for name, rule in RULES.items():
        table = merged[name] = {key: dict(row) for key, row in mine[name].items()}
        for key, row in other[name].items():
            table[key] = rule.unite(table[key], row) if key in table else rule.arrive(row)
    report = MergeReport()
    _place_mints(merged, mine)
    _keep_keysets_apart(merged, mine, report)
    _keep_views_whole(merged, mine)
    _take_up_operations(merged, mine, other, report)
    _keep_claims_apart(merged, mine, report)
    _keep_quotes_apart(merged, mine, report)
    _forget_outputs(merged)
    _free_no_coin_unasked(merged, report)
    _raise_counters(merged)
    changes: dict[str, Changes] = {}
    for name in RULES:
        before, after = mine[name], merged[name]
        added = [row for key, row in after.items() if key not in before]
        changed = [row for key, row in after.items() if key in before and row != before[key]]
        changes[name] = Changes(added + changed, [key for key in before if key not in after])
        report.tables.append(TableCount(name, len(before), len(other[name]), len(added), len(changed)))
    return changes, report


def _place_mints(merged: _Indexed, mine: _Indexed) -> None:
    """Mints that came stand behind ours, in the order in which they were added."""
    last = max((_number(row["position"]) for row in mine["wallet_mint"].values()), default=0)
    new = [row for key, row in merged["wallet_mint"].items() if key not in mine["wallet_mint"]]
    for place, row in enumerate(sorted(new, key=lambda row: (_number(row["added_at"]), str(row["url"]))), last + 1):
        row["position"] = place


def _keep_keysets_apart(merged: _Indexed, mine: _Indexed, report: MergeReport) -> None:
    """A keyset whose derivation is another's would share its secrets: it stays out, and its coins wait for their owner."""
    taken = {row["derivation"]: key for key, row in mine["wallet_keyset"].items() if row["derivation"] is not None}
    for key, row in list(merged["wallet_keyset"].items()):
        if row["derivation"] is not None and taken.setdefault(row["derivation"], key) != key:
            del merged["wallet_keyset"][key]
            report.notes.append(f"keyset {row['id']!s} collides with another one and was left out")


def _keep_claims_apart(merged: _Indexed, mine: _Indexed, report: MergeReport) -> None:
    """A single-use request that was paid on both sides was paid twice: both payments stay, and one of them is its claim.

    The same coins taken for a request on both sides are one receipt: that whose swap took effect, for the mint let only one.
    """
    state = {row["id"]: str(row["state"]) for row in merged["wallet_operation"].values()}
    receipts = merged["wallet_request_receipt"]

    def order(table: str, key: _Key) -> tuple[int, bool, str]:
        """What is done comes before what may be, and that before what came to nothing; of equals, ours."""
        row = merged[table][key]
        rank = 3 if row["single"] else 4
        if table == "wallet_request_receipt":
            rank = ("DONE", "OPEN").index(state[row["operation"]]) if state.get(row["operation"]) in ("DONE", "OPEN") else 2
        return rank, key not in mine[table], str(key)

    seen: dict[Value, _Key] = {}
    for key in sorted(receipts, key=lambda key: order("wallet_request_receipt", key)):
        if seen.setdefault(receipts[key]["coins"], key) != key:
            del receipts[key]
    for table, of in (("wallet_request_receipt", "request"), ("wallet_request_payment", "fingerprint")):
        claims: dict[Value, _Key] = {}
        rows = merged[table]
        for key in sorted(rows, key=lambda key: order(table, key)):
            if rows[key]["single"] and claims.setdefault(rows[key][of], key) != key:
                rows[key]["single"] = 0
                if state.get(rows[key]["operation"]) != "FAILED":
                    report.notes.append("a payment request that is good for one payment was paid on both sides")


def _keep_quotes_apart(merged: _Indexed, mine: _Indexed, report: MergeReport) -> None:
    """A mint that gave one quote twice must not keep a wallet from its backup: one transfer a payment, and that is ours."""
    for table, columns, noun in (
        ("wallet_transfer", ("source", "melt_quote"), "transfer"),
        ("wallet_payment_part", ("operation",), "part of a payment"),
    ):
        seen: dict[_Key, _Key] = {}
        rows = merged[table]
        for key in sorted(rows, key=lambda key: (key not in mine[table], str(key))):
            if seen.setdefault(tuple(rows[key][column] for column in columns), key) != key:
                del rows[key]
                report.notes.append(f"a {noun} was left out: its quote is another one's")


def _keep_views_whole(merged: _Indexed, mine: _Indexed) -> None:
    """What was seen of a mint's proofs is one view: that of the other side comes whole, and where we have none.

    So are the targets of a unit: shares of two sides would add up to more than the whole.
    """
    units = {row["unit"] for row in mine["wallet_target"].values()}
    for key in [
        key for key, row in merged["wallet_target"].items() if key not in mine["wallet_target"] and row["unit"] in units
    ]:
        del merged["wallet_target"][key]
    leaves = merged["wallet_liability_leaf"]
    for key in list(leaves):
        if key not in mine["wallet_liability_leaf"] and (leaves[key]["mint"],) in mine["wallet_liability"]:
            del leaves[key]


def _take_up_operations(merged: _Indexed, mine: _Indexed, other: _Indexed, report: MergeReport) -> None:
    """One open operation a quote; and what one side gave up while the other had sent it is taken up again, where that is safe.

    Safe: a payment never is (it could be made twice), and neither is an operation whose secrets were used since.
    """
    operations = merged["wallet_operation"]
    used: dict[Value, set[Value]] = {}
    for output in merged["wallet_output"].values():
        used.setdefault(output["secret"], set()).add(output["operation"])
    coins = {coin["secret"] for coin in merged["wallet_proof"].values()}
    for key, row in operations.items():
        sides = {side["wallet_operation"][key]["state"] for side in (mine, other) if key in side["wallet_operation"]}
        if row["kind"] == "melt" or sides != {"OPEN", "FAILED"}:
            continue
        secrets = [output["secret"] for output in merged["wallet_output"].values() if output["operation"] == row["id"]]
        if secrets and not any(secret in coins or used[secret] != {row["id"]} for secret in secrets):
            latest = _latest("updated_at")(mine["wallet_operation"][key], other["wallet_operation"][key])
            row.update(latest, state="OPEN", error="")
    claimed: dict[Value, set[Value]] = {}
    for claim in merged["wallet_claim"].values():
        claimed.setdefault(claim["operation"], set()).add(claim["quote"])
    open_quotes: dict[tuple[Value, Value], _Key] = {}
    went_on = {key for key, row in mine["wallet_operation"].items() if row["state"] == "OPEN"}
    for key in sorted(operations, key=lambda key: (key not in went_on, key not in mine["wallet_operation"], str(key))):
        row = operations[key]
        quotes = {(row["mint"], quote) for quote in claimed.get(row["id"], set()) | {row["quote"]} if quote is not None}
        if row["state"] != "OPEN" or not quotes:
            continue
        if quotes & open_quotes.keys():
            row["state"], row["error"] = "FAILED", "another operation of the same quote goes on"
            report.notes.append(f"operation {row['id']!s} was closed: another one of the same quote goes on")
            continue
        open_quotes |= dict.fromkeys(quotes, key)
    for claim in merged["wallet_claim"].values():
        claim["open"] = int(operations.get((claim["operation"],), {}).get("state") == "OPEN")


def _forget_outputs(merged: _Indexed) -> None:
    """Outputs of operations that are DONE are coins by now; DONE operations keep no request either."""
    done = {row["id"] for row in merged["wallet_operation"].values() if row["state"] == "DONE"}
    for row in merged["wallet_operation"].values():
        if row["id"] in done:
            row["request"] = b""
    outputs = merged["wallet_output"]
    for key in [key for key, row in outputs.items() if row["operation"] in done]:
        del outputs[key]


def _free_no_coin_unasked(merged: _Indexed, report: MergeReport) -> None:
    """A coin held by an operation that is not open, or by a token nobody knows, is for its mint to judge."""
    is_open = {row["id"] for row in merged["wallet_operation"].values() if row["state"] == "OPEN"}
    tokens = {row["id"] for row in merged["wallet_token"].values()}
    for coin in merged["wallet_proof"].values():
        if coin["state"] == "RESERVED" and coin["operation"] not in is_open:
            coin["state"], coin["operation"] = "PENDING", None
        if coin["state"] == "PENDING":
            if coin["token"] not in tokens:
                coin["token"] = None
            report.to_ask += coin["token"] is None


def _raise_counters(merged: _Indexed) -> None:
    """No counter that an open operation uses is given out again."""
    mint_of = {row["id"]: row["mint"] for row in merged["wallet_operation"].values() if row["state"] == "OPEN"}
    counters = merged["wallet_counter"]
    for output in merged["wallet_output"].values():
        if output["operation"] in mint_of and output["counter"] is not None:
            key = (mint_of[output["operation"]], output["keyset"])
            row = counters.setdefault(key, {"mint": key[0], "keyset": key[1], "next": "0"})
            row["next"] = max(str(row["next"]), str(_number(output["counter"]) + 1), key=_number)
