"""A door into a run while it runs: HTTP and a WebSocket on loopback, for its owner alone.

The protocol and the hub know no network, the server knows no training, and the client needs neither
torch nor a server: a command line that asks a run how it is starts at once.
"""
