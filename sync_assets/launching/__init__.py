"""How Dagster's daemon starts runs on this machine: from a process that has everything loaded.

launcher   what `run_launcher` in `dagster.yaml` names: asks for a worker, ends it, sees whether it lives
nursery    the process that workers are forked from, and what a worker does
"""
