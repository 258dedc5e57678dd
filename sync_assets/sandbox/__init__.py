"""A local Dynamics 365, Campaign, IMS and SFTP for tests and demonstrations; imports none of the clients it tests.

server          all systems in one process: start reading here
dataverse, entra; campaign, ims; sftp   the systems, with the dialects and traps of the real ones (docs/references)
data            sample rows
faults, middleware, journal, admin   what goes wrong on demand, what was asked, and the tests' own way in

`sync_assets.yaml` is the configuration that is used while SYNC_ASSETS_CONFIG names no other, and it shows every key;
`demo.yaml` is that of `sync-assets demo`.
"""
