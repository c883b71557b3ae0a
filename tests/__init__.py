"""What spans packages: the repository's rules, its distributions, its manual."""
