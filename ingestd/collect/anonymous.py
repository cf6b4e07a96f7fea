"""Removes identifiers of persons and devices from what a sender says of itself. Pure.

For clients that want none kept (Global Privacy Control, Do Not Track, where the configuration honours them). Names
decide, and texts that have an e-mail address in them. Times, pages, campaigns, prices and products stay.
"""

import re
from typing import Any

#: Names of identifiers, in lower case without "_", "-", "." and "$".
IDENTIFIERS = frozenset((
    "userid", "anonymousid", "previousid", "groupid", "distinctid", "clientid", "customerid", "accountid", "memberid",
    "contactid", "leadid", "visitorid", "externalid", "externalids", "uid", "duid", "nuid", "tnuid", "sid", "sessionid",
    "sessionstart", "domainuserid", "networkuserid", "domainsessionid",
    "recipient", "email", "emailaddress", "mail", "phone", "phonenumber", "mobile", "mobilephone", "fax",
    "firstname", "lastname", "fullname", "middlename", "username", "login", "nickname", "birthday", "birthdate",
    "dateofbirth", "ssn", "iban", "passport", "street", "streetaddress", "address", "postalcode", "zip", "zipcode",
    "city", "location", "latitude", "longitude", "lat", "lng", "lon", "geo",
    "ip", "ipaddress", "remoteaddr", "useragent", "useragentdata", "fingerprint", "cookie", "cookies", "token",
    "pushtoken", "deviceid", "devicetoken", "advertisingid", "idfa", "idfv", "gaid", "aaid", "androidid", "imei", "mac",
    "macaddress", "vendorid",
    "gclid", "gclsrc", "dclid", "wbraid", "gbraid", "fbclid", "msclkid", "ttclid", "twclid", "liclid", "yclid",
    "igshid", "mcid", "mceid", "fbp", "fbc", "gaclientid", "search", "query", "querystring",
    "traits", "user", "users", "customer", "profile", "person", "contact", "integrations",
))  # fmt: skip
#: Objects whose "id" and "name" are those of a device or a group of persons, not of a product or a page.
_OWNERS = frozenset(("device", "session", "account", "group", "client"))

_SEPARATORS = str.maketrans("", "", "_-.$ ")
_EMAIL = re.compile(r"[^\s@/:?&=](@|%40)[^\s@/:?&=%.]++\.")
_URL = re.compile(r"[a-z][a-z0-9+.-]*:|[/?#]", re.IGNORECASE)
_NAME_MAX = 64  # characters: no identifier's name is longer


def strip(value: Any) -> Any:
    """A copy of `value` without identifiers, or None. URLs lose their query and fragment, which often have one."""
    kind = type(value)
    if kind is dict:
        return _members(value, is_owner=False)
    if kind is list:
        return [strip(item) for item in value if not _has_email(item)]
    if kind is str:
        return None if _has_email(value) else strip_url(value)
    return value


def strip_url(text: str) -> str:
    """`text` up to its query or fragment, if it is a URL or a path."""
    return re.split("[?#]", text, maxsplit=1)[0] if _URL.match(text) else text


def _members(value: dict[str, Any], *, is_owner: bool) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, item in value.items():
        plain = name.translate(_SEPARATORS).lower() if len(name) <= _NAME_MAX else ""
        if plain in IDENTIFIERS or (is_owner and plain in ("id", "name")) or _has_email(name) or _has_email(item):
            continue
        kept[name] = _members(item, is_owner=plain in _OWNERS) if type(item) is dict else strip(item)
    return kept


def _has_email(value: object) -> bool:
    """Whether a text has an e-mail address in it; in the query of a URL it goes with the query."""
    return type(value) is str and ("@" in value or "%40" in value) and _EMAIL.search(strip_url(value)) is not None
