"""What a worker's shell runs: install, start, look, stop. Every value in it is quoted.

On a worker, `~/baton-ID` holds `tree` (the package, with its `.venv`), `log`, `pid` (of the run's process group) and,
once the run has ended, `exit` (its exit code).
"""

import shlex
from collections.abc import Sequence

PYTHON = "3.11"
"""The Python of the lock; images of TPU VMs bring an older one, so uv fetches it."""


def folder(id: str) -> str:
    """The submission's folder on a worker, for a shell."""
    return f'"$HOME"/{shlex.quote("baton-" + id)}'


def archive(id: str) -> str:
    """Where the package is copied to, relative to the home directory."""
    return f"baton-{id}.tar.gz"


def install(id: str, uv: str, jax: str) -> str:
    """Unpacks the tree and installs the lock, and libtpu as this version of jax wants it."""
    return "\n".join(
        (
            "set -eu",
            f"mkdir -p {folder(id)}/tree",
            f"cd {folder(id)}/tree",
            f'tar -xzf "$HOME"/{shlex.quote(archive(id))}',
            f"python3 -m pip install --quiet --target {folder(id)}/uv {shlex.quote('uv==' + uv)}",
            f"{folder(id)}/uv/bin/uv venv --quiet --python {PYTHON} .venv",
            f"{folder(id)}/uv/bin/uv pip install --quiet --python .venv/bin/python --no-deps -r requirements.txt",
            f"{folder(id)}/uv/bin/uv pip install --quiet --python .venv/bin/python -c requirements.txt "
            + shlex.quote(f"jax[tpu]=={jax}"),
        )
    )


def start(id: str, words: Sequence[str]) -> str:
    """Starts a command in the tree, detached, in a process group of its own; its end leaves its exit code."""
    # The trap keeps the shell alive when the group is told to stop, so that it can write down how the run ended.
    inner = f"trap : TERM INT; {shlex.join(words)}; echo $? > ../exit.new; mv ../exit.new ../exit"
    return "\n".join(
        (
            "set -eu",
            f"cd {folder(id)}/tree",
            "rm -f ../exit ../pid",
            f"PYTHONUNBUFFERED=1 nohup setsid sh -c {shlex.quote(inner)} >> ../log 2>&1 < /dev/null &",
            "echo $! > ../pid",
        )
    )


def look(id: str) -> str:
    """Prints one line: `baton-worker HOST`, then `running`, `exited CODE`, or `lost` when it ended without a code."""
    return "\n".join(
        (
            f"cd {folder(id)} 2> /dev/null || {{ echo baton-worker $(hostname) lost; exit 0; }}",
            'if [ -f pid ] && kill -0 "$(cat pid)" 2> /dev/null; then echo baton-worker $(hostname) running',
            "elif [ -f exit ]; then echo baton-worker $(hostname) exited $(cat exit)",
            "else echo baton-worker $(hostname) lost; fi",
        )
    )


def log(id: str, offset: int) -> str:
    """Prints the log from a byte on."""
    return f"tail -c +{offset + 1} {folder(id)}/log"


def stop(id: str, grace: int) -> str:
    """Tells the run to save and stop; what is left of it after so many seconds is killed."""
    return "\n".join(
        (
            f"cd {folder(id)} 2> /dev/null && [ -f pid ] || exit 0",
            'group="$(cat pid)"',
            'kill -TERM -- "-$group" 2> /dev/null || exit 0',
            f'for second in $(seq {grace}); do kill -0 -- "-$group" 2> /dev/null || exit 0; sleep 1; done',
            'kill -KILL -- "-$group" 2> /dev/null || exit 0',
        )
    )
