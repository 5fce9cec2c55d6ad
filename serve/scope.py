"""What we put into an ASGI scope."""

DIRECT = "finstage.direct"  # the request came past Serve's machinery
KEY_NAME = "finstage.key_name"  # the name of the key that was used, or nothing
TOO_LARGE = "finstage.too_large"  # the error of a body that grew beyond its bound
