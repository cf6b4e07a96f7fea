"""Rules of privacy: what a client asked for by headers, and how much of its IP address is kept. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal, Protocol

from ingestd.collect.bots import is_bot
from ingestd.collect.messages import Client

Wish = Literal["drop", "anonymise", "ignore"]

IPV4_BITS = 24
IPV6_BITS = 48
MAX_HOPS = 32  # of X-Forwarded-For that are looked at, from the right

_Network = IPv4Network | IPv6Network
_Address = IPv4Address | IPv6Address


class PrivacyRules(Protocol):
    """The part of the ``collect`` section of the configuration that is read here."""

    @property
    def gpc(self) -> Wish: ...
    @property
    def dnt(self) -> Wish: ...
    @property
    def ip(self) -> Literal["truncate", "drop", "keep"]: ...
    @property
    def bots(self) -> Literal["flag", "ignore"]: ...


def networks(texts: Iterable[str]) -> tuple[_Network, ...]:
    """Networks as ``10.0.0.0/8`` or a single address. ValueError where one is neither."""
    return tuple(ip_network(text.strip(), strict=False) for text in texts)


def wish_of(headers: Mapping[str, str], rules: PrivacyRules) -> Wish:
    """What becomes of the events of a client that sent these headers: the stricter of what GPC and DNT ask for."""
    wishes = {
        rules.gpc if headers.get("sec-gpc", "").strip() == "1" else "ignore",
        rules.dnt if headers.get("dnt", "").strip() == "1" else "ignore",
    }
    return "drop" if "drop" in wishes else "anonymise" if "anonymise" in wishes else "ignore"


def client_of(
    headers: Mapping[str, str],
    peer: str,
    trusted: Sequence[_Network],
    rules: PrivacyRules,
    *,
    anonymous: bool,
    is_visitor: bool,
) -> Client:
    """Who sent these headers over a connection from the address `peer`: a page's visitor, or maybe a server."""
    user_agent = headers.get("user-agent", "")
    address = None if anonymous or rules.ip == "drop" else sender(peer, headers.get("x-forwarded-for", ""), trusted)
    if address is not None and rules.ip == "truncate":
        address = truncate(address)
    return Client(
        ip=None if address is None else str(address),
        user_agent=user_agent,
        is_bot=rules.bots == "flag" and is_bot(user_agent, of_visitor=is_visitor),
        anonymous=anonymous,
    )


def sender(peer: str, forwarded_for: str, trusted: Sequence[_Network]) -> _Address | None:
    """The right-most address that is not of a trusted proxy: what stands left of it, anybody may have written."""
    address = _address(peer)
    if not trusted or not forwarded_for or address is None or not _is_trusted(address, trusted):
        return address
    for hop in reversed(forwarded_for.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
        address = _address(hop)
        if address is None or not _is_trusted(address, trusted):
            return address
    return address


def truncate(address: _Address) -> _Address:
    """The first address of its network: /24 of IPv4, /48 of IPv6."""
    bits = IPV4_BITS if address.version == 4 else IPV6_BITS
    return ip_network((address, bits), strict=False).network_address


def _is_trusted(address: _Address, trusted: Sequence[_Network]) -> bool:
    return any(address in network for network in trusted)


def _address(text: str) -> _Address | None:
    """An address as proxies write it: with a port, in brackets, or with a zone; None for anything else."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
