"""Making and changing an index: its folder, records from wheels, a server to try it."""
