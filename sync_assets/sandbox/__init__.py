"""Sandbox: emulators of Dynamics 365, Entra ID, Campaign, Adobe IMS and SFTP, for tests and demonstrations.

server                 all systems in one process; start reading here
dataverse, entra       Dynamics 365 and its sign-in
client_assertions      sign-in by certificates and federated tokens
campaign, ims, sftp    Campaign, its sign-in and its file server
data                   sample rows
faults, bad_answers    faults that can be injected
middleware             journal, faults and latency in front of each system
journal                log of all requests, for tests
admin                  admin interface for tests
asgi, listener, certificates, files   helpers

The emulators copy the dialects and traps of the real systems as documented in docs/dev/references. `sync_assets.yaml`
is the configuration that the sandbox's environment names, and shows every key; `demo.yaml` is that of `sync-assets
demo`.

Invariant: no module here imports a client that is tested against the sandbox.
"""
