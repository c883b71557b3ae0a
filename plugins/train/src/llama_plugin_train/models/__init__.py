"""Models as torch modules, their sizes and costs, and the folders they are kept in.

A model knows nothing of losses, optimizers or ranks: they are applied to it from outside. Each
module is imported by its own name, so that a configuration is read without torch.
"""
