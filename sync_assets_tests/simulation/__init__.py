"""Simulated runs from a seed, and the checker that judges what they leave behind."""
