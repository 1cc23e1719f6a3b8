"""A CPU run starts itself again with settings of the C library, once, and leaves a user's own alone."""

import os
import subprocess
import sys

import pytest

from recipes import allocator

SHOW = "import os, sys; from recipes import allocator; allocator.restart(); "
SHOW += "print(os.environ.get('GLIBC_TUNABLES'), sys.argv[1:], allocator.wanted())"


def shown(**environment):
    kept = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", SHOW, "a", "b c"]
    run = subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True)
    return run.stdout.strip()


# Elsewhere there is no glibc to set up, and `wanted` is False.
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_it_starts_again_with_the_same_words():
    assert shown(JAX_PLATFORMS="cpu") == f"{allocator.TUNABLES} ['a', 'b c'] False"


def test_a_user_s_settings_and_accelerators_are_left_alone():
    own = "glibc.malloc.arena_max=2"
    assert shown(JAX_PLATFORMS="cpu", GLIBC_TUNABLES=own) == f"{own} ['a', 'b c'] False"
    assert shown(JAX_PLATFORMS="tpu,cpu") == "None ['a', 'b c'] False"
