"""Public: the types that an event model of your own inherits from."""

from ingestd.core.events import AdvisorCall, EmailClick, EmailOpen, Event, GenericEvent, WebVisit

__all__ = ["AdvisorCall", "EmailClick", "EmailOpen", "Event", "GenericEvent", "WebVisit"]
