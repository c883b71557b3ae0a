"""The catalogue as a static web site: what indexes say, in pages that run nothing of it."""
