"""Signatures of webhooks against a vector of the scheme's own libraries, and addresses."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.notify.addresses import is_literal, is_public
from infra.notify.signing import is_signed, new_secret, signed_headers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
AT_S = 1_614_265_330


def test_the_signature_is_that_of_the_schemes_libraries() -> None:
    headers = signed_headers(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", AT_S, BODY)

    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert is_signed(SECRET, headers, BODY, AT_S + 1)


def test_what_was_changed_is_old_or_unsigned_is_not_taken() -> None:
    headers = signed_headers(SECRET, "n1", AT_S, BODY)

    assert not is_signed(SECRET, headers, BODY + b" ", AT_S)
    assert not is_signed(new_secret(), headers, BODY, AT_S)
    assert not is_signed(SECRET, headers, BODY, AT_S + 301)
    assert not is_signed(SECRET, headers | {"webhook-id": "n2"}, BODY, AT_S)
    assert not is_signed(SECRET, headers | {"webhook-timestamp": "soon"}, BODY, AT_S)
    assert not is_signed(SECRET, {}, BODY, AT_S)
    rotated = headers | {"webhook-signature": f"v1,AAAA {headers['webhook-signature']}"}
    assert is_signed(SECRET, rotated, BODY, AT_S)
    with pytest.raises(ValueError, match="whsec_"):
        signed_headers("not base64!", "n1", AT_S, BODY)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
        "100.64.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0",
        "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::",
        "64:ff9b::a00:1", "192.88.99.1", "fec0::1", "3fff::1", "64:ff9b:1::7f00:1", "::7f00:1",
        "localhost", "",
    ],
)  # fmt: skip
def test_addresses_that_nothing_is_sent_to(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_of_the_internet(address: str) -> None:
    assert is_public(address)
    assert is_literal(address)
    assert not is_literal("example.org")


@given(st.ip_addresses(v=4))
def test_an_address_carried_by_another_kind_is_judged_as_itself(
    address: ipaddress.IPv4Address,
) -> None:
    number = int(address)
    mapped = ipaddress.IPv6Address((0xFFFF << 32) | number)
    translated = ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | number)
    assert is_public(str(mapped)) == is_public(str(address)) == is_public(str(translated))
