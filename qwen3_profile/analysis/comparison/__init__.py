"""Two sides held against each other: what differs, by how much, how sure that is, and why."""
