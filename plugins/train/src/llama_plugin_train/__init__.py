"""Training from scratch, on torch: from text files to a folder that llama-core runs.

Each folder is one idea, and a lower one never imports a higher: models, quantize, objective and
optimizing know tensors only; tokens and data make rows of them out of text; runs keeps what a run
has come to.
"""
