"""Indexes of plugins that can be trusted, and installing from them without breaking anything."""
