"""Send HTTP requests for every client: sign-in renewal, retry, throttling, response limits, TLS and proxies.

client              requests with retry and sign-in renewal: start reading here
pagination          guard against a paged read that never ends
retry               which answers are repeated, after how long, how often
transport           responses, limits and errors of a request
aiohttp_transport   how a single request is sent
redaction           remove personal data from error texts

Nothing here depends on Dynamics 365 or Campaign.
"""
