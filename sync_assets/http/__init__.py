"""Send HTTP requests for every client: sign-in renewal, retry, throttling, response limits, TLS and proxies.

client              requests with retry and sign-in renewal: start reading here
pagination          guard against a paged read that never ends
transport           responses, limits and errors of a request
aiohttp_transport   the transport in use
httpx_transport     the same for code that uses httpx
redaction           remove personal data from error texts

Nothing here depends on Dynamics 365 or Campaign.
"""
