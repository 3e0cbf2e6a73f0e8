"""Keys of masks: made here from the one secret that a pipeline names, so that the secret itself goes no further."""

from __future__ import annotations

import hashlib

from connectors.base.secrets import resolve
from libcore.errors import ConfigurationError

KEY_BYTES = 32
SECRET_BYTES_MIN = 16


def mask_key(reference: str, domain: str) -> bytes:
    """The key of one domain: equal values get equal masks within a domain, and unlike ones in another.

    Args:
        reference: env:NAME or file:/path of the secret; to be kept for as long as masked rows are to match.
        domain: what the values are, as "customer"; a column's name where nothing else is said.
    Returns: KEY_BYTES bytes of keyed BLAKE2b. Raises ConfigurationError for a secret that is short or not there.
    """
    secret = resolve(reference).reveal().encode()
    if len(secret) < SECRET_BYTES_MIN:
        raise ConfigurationError(f"{reference}: expected a secret of at least {SECRET_BYTES_MIN} bytes, found fewer")
    whole = hashlib.blake2b(secret, digest_size=64, person=b"headrace secret").digest()
    return hashlib.blake2b(domain.encode(), key=whole, digest_size=KEY_BYTES, person=b"headrace mask").digest()
