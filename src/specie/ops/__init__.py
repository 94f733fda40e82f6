"""What keeps a bank running: `config` and `settings`, `logging` and `redaction`, `metrics`, `health`, `secret`.

Used by module, so that a program which needs only a `Secret` loads no metrics library.
"""
