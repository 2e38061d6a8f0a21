"""What torch.compile made, and what each of its kernels was compiled from."""
