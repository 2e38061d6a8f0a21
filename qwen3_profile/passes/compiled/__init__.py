"""torch.compile: a compiled pass, and what each of its kernels was compiled from."""
