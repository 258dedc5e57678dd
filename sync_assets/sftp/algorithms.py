"""The algorithms of SSH that we accept, the preferred first: no CBC, MD5 or SHA-1, which paramiko offers still.

Source: https://www.rfc-editor.org/rfc/rfc9142 and https://man.openbsd.org/ssh_config (the defaults of OpenSSH)
"""

from __future__ import annotations

import paramiko

OFFER_MODERN = (
    "Its software or settings are out of date: have its owner offer AES in CTR or GCM mode, HMAC with SHA-2, and key "
    "exchange by Curve25519, ECDH or a Diffie-Hellman group of 2,048 bits and more with SHA-2."
)
CIPHERS = (
    *("aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"),
    *("aes256-ctr", "aes192-ctr", "aes128-ctr"),
)
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
KEY_EXCHANGES = (
    *("mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org"),
    *("ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521"),
    *("diffie-hellman-group16-sha512", "diffie-hellman-group-exchange-sha256", "diffie-hellman-group14-sha256"),
)
SIGNATURES = (
    *("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    *("rsa-sha2-512", "rsa-sha2-256"),
)


def modern_algorithms_only(transport: paramiko.Transport) -> None:
    """Restrict a transport to the algorithms of this module that the installed paramiko has."""
    options = transport.get_security_options()
    options.ciphers = [name for name in CIPHERS if name in options.ciphers]
    options.digests = [name for name in MACS if name in options.digests]
    options.kex = [name for name in KEY_EXCHANGES if name in options.kex]
    options.key_types = [name for name in SIGNATURES if name in options.key_types]
