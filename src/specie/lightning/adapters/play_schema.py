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

_METHODS = """
ALTER TABLE play_book ADD COLUMN rail TEXT NOT NULL DEFAULT 'play';
CREATE UNIQUE INDEX play_book_rail ON play_book (rail);
ALTER TABLE play_payment ADD COLUMN rail TEXT NOT NULL DEFAULT 'play';
ALTER TABLE play_payment ADD COLUMN target TEXT NOT NULL DEFAULT '';
ALTER TABLE play_payment ADD COLUMN partial {integer} NOT NULL DEFAULT 0;
ALTER TABLE play_payment ADD COLUMN blocks {integer} NOT NULL DEFAULT 0;
ALTER TABLE play_payment ADD COLUMN outpoint TEXT NOT NULL DEFAULT '';
CREATE TABLE play_request (
  rail TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  request TEXT NOT NULL,
  amount_msat TEXT NOT NULL,
  created_ms {integer} NOT NULL,
  expiry {integer} NOT NULL,
  held {integer} NOT NULL,
  PRIMARY KEY (rail, payment_id)
){strict};
CREATE INDEX play_request_open ON play_request (rail, created_ms) WHERE held = 0;
CREATE UNIQUE INDEX play_request_text ON play_request (rail, request);
CREATE TABLE play_receipt (
  rail TEXT NOT NULL,
  cursor {integer} NOT NULL,
  payment_id TEXT NOT NULL,
  receipt_id TEXT NOT NULL,
  amount_msat TEXT NOT NULL,
  first_seen {integer} NOT NULL,
  reference TEXT NOT NULL,
  withdrawn {integer} NOT NULL,
  PRIMARY KEY (rail, cursor),
  UNIQUE (rail, receipt_id, withdrawn)
){strict};
CREATE INDEX play_receipt_payment ON play_receipt (rail, payment_id);
CREATE TABLE play_part (
  part_id TEXT PRIMARY KEY,
  payment_hash TEXT NOT NULL,
  amount_msat TEXT NOT NULL,
  joined_ms {integer} NOT NULL,
  state TEXT NOT NULL
){strict};
CREATE INDEX play_part_payment ON play_part (payment_hash);
CREATE TABLE play_block (
  rail TEXT NOT NULL,
  height {integer} NOT NULL,
  block_id TEXT NOT NULL,
  mined_ms {integer} NOT NULL,
  PRIMARY KEY (rail, height)
){strict};
CREATE TABLE play_transaction (
  rail TEXT NOT NULL,
  txid TEXT NOT NULL,
  payment_id TEXT NOT NULL,
  amount_msat TEXT NOT NULL,
  seen_ms {integer} NOT NULL,
  ready_height {integer} NOT NULL,
  height {integer},
  gone {integer} NOT NULL,
  receipt_id TEXT NOT NULL,
  paying TEXT NOT NULL,
  attempt TEXT NOT NULL,
  PRIMARY KEY (rail, txid)
){strict};
CREATE INDEX play_transaction_open ON play_transaction (rail, seen_ms) WHERE gone = 0;
"""

MIGRATIONS = [
    Migration(
        room="play",
        version=1,
        sqlite=_TABLES.format(integer="INTEGER", strict=" STRICT"),
        postgres=_TABLES.format(integer="BIGINT", strict=""),
    ),
    Migration(
        room="play",
        version=2,
        sqlite=_METHODS.format(integer="INTEGER", strict=" STRICT"),
        postgres=_METHODS.format(integer="BIGINT", strict=""),
    ),
]
"""For `Storage.migrate`.

`play_book` is one row: the newest arrival's cursor and what came in and went out, in satoshi and the millisatoshi that
remain, so that no sum can overflow. Its update orders arrivals: cursors are committed in their order, without a gap.
`play_payment.plan` is what will become of a payment that is PENDING, `due_ms` when, `answer` what is said until then.

`play_invoice` and `play_arrival` are BOLT 11's, where a request is paid once. `play_request` and `play_receipt` are those of
every other method: `payment_id` names the request, each receipt is an arrival or, with `withdrawn`, the end of one.
`play_transaction` is a transaction to one of our requests (`payment_id`), for one of our payments (`paying`, `attempt`), or
both; `height` is NULL until a block has it, `gone` true once it was replaced, `receipt_id` the arrival told of it, if any.
`play_part` belongs to the network that banks may share (NUT-15).
"""
