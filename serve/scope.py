"""What we put into an ASGI scope."""

DIRECT = "finstage.direct"  # the request came past Serve's machinery
KEY_NAME = "finstage.key_name"  # the name of the key that was used, or nothing
