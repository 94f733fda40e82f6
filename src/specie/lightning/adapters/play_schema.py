"""Schema of the play rail (room `play`), one migration after another; a released one is never edited."""

from __future__ import annotations

from specie.storage import Migration

__all__ = ["MIGRATIONS"]

_TABLES = """
CREATE TABLE play_book (
  id {integer} PRIMARY KEY,
  cursor {integer} NOT NULL,
  in_sat {integer} NOT NULL,
  in_msat {integer} NOT NULL,
  out_sat {integer} NOT NULL,
  out_msat {integer} NOT NULL
){strict};
INSERT INTO play_book (id, cursor, in_sat, in_msat, out_sat, out_msat) VALUES (1, 0, 0, 0, 0, 0);
CREATE TABLE play_invoice (
  payment_id TEXT PRIMARY KEY,
  request TEXT NOT NULL,
  preimage TEXT NOT NULL,
  amount_msat TEXT NOT NULL,
  created_ms {integer} NOT NULL,
  expiry {integer} NOT NULL,
  held {integer} NOT NULL,
  settled_ms {integer}
){strict};
CREATE INDEX play_invoice_open ON play_invoice (created_ms) WHERE settled_ms IS NULL AND held = 0;
CREATE TABLE play_arrival (
  cursor {integer} PRIMARY KEY,
  payment_id TEXT NOT NULL UNIQUE,
  amount_msat TEXT NOT NULL,
  source TEXT NOT NULL,
  arrived_ms {integer} NOT NULL
){strict};
CREATE TABLE play_payment (
  payment_id TEXT NOT NULL,
  attempt TEXT NOT NULL,
  request TEXT NOT NULL,
  amount_msat TEXT NOT NULL,
  max_fee_msat TEXT NOT NULL,
  own {integer} NOT NULL,
  state TEXT NOT NULL,
  answer TEXT NOT NULL,
  plan TEXT NOT NULL,
  due_ms {integer},
  preimage TEXT NOT NULL,
  fee_msat TEXT NOT NULL,
  reason TEXT NOT NULL,
  ordered_ms {integer} NOT NULL,
  updated_ms {integer} NOT NULL,
  PRIMARY KEY (payment_id, attempt)
){strict};
CREATE UNIQUE INDEX play_payment_single ON play_payment (payment_id) WHERE state <> 'FAILED';
CREATE INDEX play_payment_due ON play_payment (due_ms) WHERE state = 'PENDING' AND due_ms IS NOT NULL;
"""

MIGRATIONS = [
    Migration(
        room="play",
        version=1,
        sqlite=_TABLES.format(integer="INTEGER", strict=" STRICT"),
        postgres=_TABLES.format(integer="BIGINT", strict=""),
    )
]
"""For `Storage.migrate`.

`play_book` is one row: the newest arrival's cursor and what came in and went out, in satoshi and the millisatoshi that
remain, so that no sum can overflow. Its update orders arrivals: cursors are committed in their order, without a gap.
`play_payment.plan` is what will become of a payment that is PENDING, `due_ms` when, `answer` what is said until then.
"""
