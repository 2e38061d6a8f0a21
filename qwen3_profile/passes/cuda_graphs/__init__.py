"""CUDA graphs: a pass captured and replayed, and the labels of what it repeats for its replays."""
