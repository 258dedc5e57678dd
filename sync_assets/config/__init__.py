"""The configuration: the file and the environment as typed, frozen values.

models         the whole file as `Config`: start reading here
alerts, log_export, opt_out, runs, values   models of its parts
loader         YAML to `Config`, or every problem with its line
cross_checks   rules about more than one place of the file
yaml_lines     YAML as plain data with line numbers
json_schema    the same as a JSON Schema, for editors
environment    environment variables: addresses, secrets, folders
"""
