"""What we put into an ASGI scope."""

DIRECT = "finstage.direct"  # the request came past Serve's machinery
REQUEST_ID = "finstage.request_id"  # for what is outside of the block that binds it
KEY_NAME = "finstage.key_name"  # the name of the key that was used, or nothing
TOO_LARGE = "finstage.too_large"  # the error of a body that grew beyond its bound
