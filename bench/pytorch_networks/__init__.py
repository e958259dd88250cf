"""The networks in plain PyTorch, for machines that have torch and nothing else."""
