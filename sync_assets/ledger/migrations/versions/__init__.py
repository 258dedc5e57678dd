"""One module per step. Steps are frozen once released: they never import `schema`, which moves on."""
