"""From a request to a run folder: the only part that imports torch."""
