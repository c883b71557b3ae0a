"""Where a server may listen without a key."""

from __future__ import annotations

import pytest

from llama_core.errors import LlamaError
from llama_core.web import Keyring, check_bind, new_key

HERE = [
    "127.0.0.1",
    "127.4.5.6",
    "localhost",
    "LocalHost.",
    "::1",
    "[::1]",
    "0:0:0:0:0:0:0:1",
    "::ffff:127.0.0.1",
]
BEYOND = [
    "0.0.0.0",
    "::",
    "[::]",
    "",
    "::ffff:0.0.0.0",
    "::ffff:10.0.0.1",
    "192.168.1.5",
    "fe80::1%eth0",
    "169.254.169.254",
    "example.org",
    "localhost.example.org",
    "my-machine",
    "127.1",
    "0",
    "2130706433",
    " 127.0.0.1",
]


@pytest.mark.parametrize("host", HERE)
def test_this_machine_needs_no_key(host):
    check_bind(host, Keyring())


@pytest.mark.parametrize("host", BEYOND)
def test_anywhere_else_needs_one(host):
    with pytest.raises(LlamaError) as refused:
        check_bind(host, Keyring())
    assert f"'{host}'" in str(refused.value)
    assert "127.0.0.1" in str(refused.value.remedy)
    assert "\n" not in str(refused.value)
    check_bind(host, Keyring((new_key("a", {"infer"})[1],)))


def test_a_wildcard_is_called_what_it_is_and_the_remedy_is_the_callers():
    with pytest.raises(LlamaError, match="every address of this machine"):
        check_bind("::", Keyring())
    with pytest.raises(LlamaError, match="Run: llama-thing keys"):
        check_bind("0.0.0.0", Keyring(), remedy="Run: llama-thing keys")
