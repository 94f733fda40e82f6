"""Where the audit log is kept, and where it is anchored."""
