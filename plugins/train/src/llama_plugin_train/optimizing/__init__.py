"""How weights move: optimizers, their groups and rates, clipping, and averages of weights.

State is plain named tensors throughout, so that a checkpoint needs no pickle.
"""
