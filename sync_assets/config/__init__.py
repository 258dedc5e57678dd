"""Load the configuration file and the environment variables as typed, frozen values.

models         the whole file as `Config`: start reading here
opt_out, bulk_load, runs, values   models of its parts
loader         parse YAML with line numbers to `Config`, or report every problem with its line
cross_checks   rules that involve several places of the file
json_schema    the models as a JSON Schema, for editors
files          find the configuration file, read `.env`
found_files    refuse what another user may have put there
environment, variables   the settings from environment variables; how one variable is read
"""
