"""Where a server may listen: this machine, or anywhere once it has a key.

Knows addresses. It resolves no names, since what a name means may change between the check and
the bind: any name but `localhost` counts as open to the network.
"""

from __future__ import annotations

import ipaddress

from llama_core.errors import LlamaError
from llama_core.web.keys import Keyring

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def as_address(host: str) -> IPAddress | None:
    """The IP address that is written here, IPv4-mapped IPv6 as IPv4; None for a name."""
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    address = as_address(host)
    if address is None:
        return host.lower().removesuffix(".") == "localhost"
    return address.is_loopback


def is_wildcard(host: str) -> bool:
    """Whether listening here means listening on every address of the machine."""
    address = as_address(host)
    return host == "" if address is None else address.is_unspecified


def check_bind(
    host: str,
    keys: Keyring,
    *,
    remedy: str = "Bind 127.0.0.1, or create an API key first.",
) -> None:
    """Refuse to listen beyond this machine without a key; the caller may name its own command."""
    if keys or is_loopback(host):
        return
    reach = "every address of this machine" if is_wildcard(host) else "the network"
    raise LlamaError(f"refusing to listen on '{host}' ({reach}) without an API key", remedy=remedy)
