"""HTTP for every client: sign-in renewal, retry, throttling, response limits, TLS and proxies.

client              requests with retry and sign-in renewal: start reading here
pagination          ends a paged read that would never end
transport           the interface between client and network, and its errors
aiohttp_transport   the transport in use
httpx_transport     the same for code that speaks httpx
event_loop          uvloop where it is installed

Knows neither Dynamics 365 nor Campaign.
"""
