"""How times grow with batch and length: laws that are fitted to a sweep, and how far they hold."""
