"""Our own servers: which runs and calls they accept, and how they are started.

supervisor                       `dev` and `demo`: all servers as processes: start reading here
servers, code_server             run Dagster's web server and code server with our guards before them
run_coordinator                  which runs are accepted
process_guard, processes         end a process with the one that started it; settings of all of them
dagster_patches                  all that is private to Dagster
"""
