"""Who signs what, and the client that believes nothing else."""
