"""Framework-free ASGI middleware for every plugin that opens a port. Lists the public names."""

from llama_core.web.bind import check_bind, is_loopback
from llama_core.web.guard import CALLER, Guard, Policy
from llama_core.web.keys import SCOPES, Key, Keyring, KeyScope, new_key
from llama_core.web.limits import Limits
from llama_core.web.origin import Origin, Sites
from llama_core.web.pages import CONTENT_SECURITY_POLICY, secured
from llama_core.web.refusal import RefusedError, error_body
from llama_core.web.routes import ANY, WEBSOCKET, Access, Routes, Rule, below

__all__ = [
    "ANY",
    "CALLER",
    "CONTENT_SECURITY_POLICY",
    "SCOPES",
    "WEBSOCKET",
    "Access",
    "Guard",
    "Key",
    "KeyScope",
    "Keyring",
    "Limits",
    "Origin",
    "Policy",
    "RefusedError",
    "Routes",
    "Rule",
    "Sites",
    "below",
    "check_bind",
    "error_body",
    "is_loopback",
    "new_key",
    "secured",
]
