"""Which addresses a webhook may go to: none of this machine's or its network's, unless allowed."""

from __future__ import annotations

import ipaddress


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the internet's.

    Private, loopback, link-local, shared, multicast, reserved and unspecified ones are not, nor
    IPv6 addresses that carry such an IPv4 address (mapped, 6to4, NAT64, Teredo).
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        carried = _carried(parsed)
        if carried is not None:
            return is_public(str(carried))
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def is_literal(host: str) -> bool:
    """Return whether a host is an IP address, which no resolver is asked about."""
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None
