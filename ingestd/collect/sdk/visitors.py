"""Tells whether a message is a bot's, where a server may have sent it for a visitor. Pure."""

import msgspec

from ingestd.collect.bots import is_bot
from ingestd.collect.messages import Client


def visitor(client: Client, user_agent: object, *, flag_bots: bool) -> Client:
    """The sender of a message: `client`, but a bot only where the visitor is one.

    `user_agent` is the visitor's, as the message tells it. Without it the request's counts if a browser, or what
    pretends to be one, made it; the HTTP libraries of servers' SDKs do not make their messages a bot's.
    """
    if not flag_bots or user_agent == client.user_agent:
        return client
    if type(user_agent) is str and user_agent:
        found = is_bot(user_agent)
    else:
        found = client.is_bot and client.user_agent.startswith("Mozilla/")
    return client if found == client.is_bot else msgspec.structs.replace(client, is_bot=found)
