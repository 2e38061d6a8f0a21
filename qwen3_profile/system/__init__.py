"""Files and processes; knows nothing of profiling."""
