"""What connects this room to a store; imported by `app` alone."""
