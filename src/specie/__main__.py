"""`python -m specie` is `specie`."""

from __future__ import annotations

from specie.cli import main

if __name__ == "__main__":
    main()
