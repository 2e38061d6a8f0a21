"""The server behind --view."""
