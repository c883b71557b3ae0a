"""What a run tells, written down and shown: a file, TensorBoard, a terminal, listeners of the core.

Each is a function of an event and its object for JSON. None of them can stop a run.
"""
