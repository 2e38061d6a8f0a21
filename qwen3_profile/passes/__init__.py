"""Which forward passes a trace shows, and the sums of each."""
