"""The books: double entry over the bank's store. Entry: `Ledger.post`, in the transaction of the verb that moves value."""

from specie.ledger.books import Books, JournalEntry, Posting
from specie.ledger.engine import Ledger
from specie.ledger.ports import LedgerStore

__all__ = ["Books", "JournalEntry", "Ledger", "LedgerStore", "Posting"]
