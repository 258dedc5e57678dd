"""Send HTTP requests for every client: sign-in renewal, retry, throttling, response limits, TLS and proxies.

client              requests with retry and sign-in renewal, and an end for endless paged reads: start reading here
retry               which answers are repeated, after how long, how often
transport           responses, limits and errors of a request
aiohttp_transport   how a single request is sent
redaction           remove personal data from error texts
proxy               the proxy for a request, and TCP connections through it

Nothing here depends on Dynamics 365 or Campaign.
"""
