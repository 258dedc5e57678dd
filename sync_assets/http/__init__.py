"""Send HTTP requests for every client: sign-in renewal, retry, throttling, response limits, TLS and proxies.

client              the endpoint of a system, and an end for endless paged reads: start reading here
tokens              cached tokens
transport_stack     sign-in renewal, retry and throttle as transports of httpx, and httpx's client around them
retry               which answers are repeated, after how long, how often
transport           responses, limits and errors of a request
aiohttp_transport   how a single request is sent
redaction           remove personal data from error texts
proxy               the proxy for a request, and TCP connections through it

Nothing here depends on Dynamics 365 or Campaign.
"""
