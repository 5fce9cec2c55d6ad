"""Signatures of webhooks, by the Standard Webhooks scheme (standardwebhooks.com).

`webhook-signature` is `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, with the key
that follows `whsec_` in the secret, in base64 too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping

from infra.digits import whole_number

PREFIX = "whsec_"
_KEY_BYTES = 32
_VERSION = "v1"


def new_secret() -> str:
    """Return a secret nobody has seen."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def signed_headers(secret: str, notice_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the headers of a webhook; `timestamp_s` is Unix time. Raises ValueError for a secret
    that is none."""
    return {
        "webhook-id": notice_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": f"{_VERSION},{_signature(secret, notice_id, timestamp_s, body)}",
    }


def is_signed(
    secret: str, headers: Mapping[str, str], body: bytes, now_s: float, tolerance_s: float = 300
) -> bool:
    """Return whether headers (lower case) are those of a body, signed not long ago."""
    notice_id, text = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    timestamp_s = whole_number(text)
    if timestamp_s is None or abs(now_s - timestamp_s) > tolerance_s:
        return False
    right = _signature(secret, notice_id, timestamp_s, body)
    given = [part.partition(",") for part in headers.get("webhook-signature", "").split()]
    return any(
        version == _VERSION and hmac.compare_digest(signature, right)
        for version, _, signature in given
        if signature.isascii()
    )


def _signature(secret: str, notice_id: str, timestamp_s: int, body: bytes) -> str:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("a secret is whsec_ and base64") from None
    told = f"{notice_id}.{timestamp_s}.".encode() + body
    return base64.b64encode(hmac.new(key, told, hashlib.sha256).digest()).decode()
