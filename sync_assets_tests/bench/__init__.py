"""The benchmark: how fast the program is beside its peers and beside another checkout. See README.md."""
