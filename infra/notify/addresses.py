"""Which hosts may be told: none of this machine or its network, unless that is allowed."""

from __future__ import annotations

import ipaddress
import re

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # of which some resolvers make an address
_LONGEST = 253


class HostInvalid(ValueError):
    """Raised for what is no host, or none that may be told; its text is the reason."""


def checked_host(text: str, allow_private: bool) -> str:
    """Return a name, or an IP address in its usual form; raises HostInvalid.

    A name is looked up only when something is sent: what it means then decides.
    """
    host = text.lower()
    labels = host.removesuffix(".").split(".")
    is_private = labels[-1] == "localhost"
    if is_literal(host) and "%" not in host:
        host = host.strip("[]")
        is_private = not is_public(host)
    elif len(host) > _LONGEST or not all(map(_LABEL.fullmatch, labels)):
        raise HostInvalid("it is no host: a name such as mail.example.com, or an IP address")
    elif _NUMBER.fullmatch(labels[-1]):
        raise HostInvalid("an IPv4 address is written as four numbers, 192.0.2.1")
    if is_private and not allow_private:
        raise HostInvalid("its address is private (see FINSTAGE_NOTIFY_PRIVATE)")
    return host


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the internet's.

    Private, loopback, link-local, site-local, shared, multicast, reserved and unspecified ones are
    not, nor relays from IPv4 to IPv6 and those of documents, nor IPv6 addresses that carry such an
    IPv4 address (mapped, 6to4, NAT64, Teredo).
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        carried = _carried(parsed)
        if carried is not None:
            return is_public(str(carried))
    if any(parsed in network for network in _UNKNOWN_TO_PYTHON):
        return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def is_literal(host: str) -> bool:
    """Return whether a host is an IP address, which no resolver is asked about."""
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


def is_private_form(host: str) -> bool:
    """Return whether a host, as it is written, is this machine or one of its network.

    Numbers in other forms than four of them count too, as some resolvers read an address there.
    """
    if is_literal(host):
        return not is_public(host.strip("[]"))
    last = host.lower().removesuffix(".").rpartition(".")[2]
    return last == "localhost" or _NUMBER.fullmatch(last) is not None


_UNKNOWN_TO_PYTHON = (  # that no packets of the internet go there
    ipaddress.ip_network("192.88.99.0/24"),  # relays of 6to4
    ipaddress.ip_network("fec0::/10"),  # site-local
    ipaddress.ip_network("3fff::/20"),  # documents
)
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
