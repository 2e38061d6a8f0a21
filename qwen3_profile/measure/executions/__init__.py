"""The ways of running one forward pass: eager, training step, CUDA graph, compiled, a call of
one's own.
"""
