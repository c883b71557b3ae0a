"""Models as data: graphs of operations, encoded weights, and the files and words they come in.

`graph` and `ops` say what a model is, `architectures` make one from a config, `rewrites` make one
from another, `weights` and `encodings` hold its numbers. Nothing here runs a model but what the
reference is made of.
"""
