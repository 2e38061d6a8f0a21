"""Traces that other programs recorded with stacks: labels made of their nn.Module ranges."""
