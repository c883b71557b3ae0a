"""Training that knows it will be quantized: linears that compute with what will be stored.

What a weight becomes is said by core's encodings, bit for bit; the gradient goes straight through.
"""
