"""A Qwen3 or another decoder: its published shape, its weights, its parts and its inputs."""
