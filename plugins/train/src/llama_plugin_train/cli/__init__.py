"""`llama train`: begin a run, go on with one, and steer one that runs.

torch is imported by what trains and by nothing else, so that asking a run how it is takes no time.
"""
