"""The stores themselves, one module each; imported by `app` and tests only."""
