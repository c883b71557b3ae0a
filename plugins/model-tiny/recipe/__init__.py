"""How the bundled model is made; none of this is in the wheel."""
