"""All services of the platform, registered: what a front end imports to invoke them."""

from __future__ import annotations

from sandbox.thingworx import services_definition, services_history, services_search, services_thing
from sandbox.thingworx.services import Reply, invoke

__all__ = ["SERVICE_MODULES", "Reply", "invoke"]

SERVICE_MODULES = (services_definition, services_history, services_search, services_thing)
"""Importing these is what registers their services."""
