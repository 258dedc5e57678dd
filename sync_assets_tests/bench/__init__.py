"""The benchmark: how fast the program is beside the machine's limit and beside its peers. See README.md."""
