"""Installing beside an environment: whole generations, one switch, and the way back."""
