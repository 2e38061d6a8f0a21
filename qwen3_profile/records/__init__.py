"""From the passes of a trace to timing records, their statistics and files, and the ledger."""
