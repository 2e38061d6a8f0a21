"""From argv to checked requests, and how a command prints and ends."""
