"""The `gcloud` command-line tool: its words, and the one place that runs it.

Words are lists, never a line for a shell, and every value is joined to its flag (`--zone=...`), so that no value can
become a flag or a command. Syntax after `gcloud compute tpus {tpu-vm,queued-resources} COMMAND --help`, version 528.
"""

import dataclasses
import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from typing import Any

LABEL = "baton-submit"
"""What is made carries this label; its value is the submission's own. Nothing else is ever deleted."""

_SECRET = re.compile(r"(ya29\.|AIza|Bearer |[Tt]oken[=:] ?|-----BEGIN)\S+")


class Failed(Exception):
    """A command of gcloud failed; the text is what it said last.

    Attributes:
      code: its exit code, None when it was ended because it took too long.
      said: all that it wrote to stderr.
    """

    def __init__(self, line: str, code: int | None, said: str = ""):
        super().__init__(line)
        self.code, self.said = code, said


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gcloud:
    """Cloud TPU in one zone of one project; `queued` asks by a queued resource, which has the name of its node."""

    zone: str
    project: str | None = None
    queued: bool = False

    def create(self, name: str, type: str, runtime: str, spot: bool, label: str) -> list[str]:
        """Words that ask for a TPU."""
        kind, runs = ("queued-resources", "runtime-version") if self.queued else ("tpu-vm", "version")
        node = [f"--node-id={name}"] if self.queued else []
        words = self._words(kind, "create", name, *node, f"--accelerator-type={type}", f"--{runs}={runtime}")
        return [*words, *(["--spot"] if spot else []), f"--labels={LABEL}={label}"]

    def describe(self, name: str, request: bool = False) -> list[str]:
        """Words that print a node, or the queued `request` for it, as JSON."""
        return self._words("queued-resources" if request else "tpu-vm", "describe", name, "--format=json")

    def delete(self, name: str) -> list[str]:
        """Words that delete what `create` made."""
        kind, force = ("queued-resources", ["--force"]) if self.queued else ("tpu-vm", [])
        return self._words(kind, "delete", name, *force)

    def ssh(self, name: str, script: str, worker: int | str = "all") -> list[str]:
        """Words that run a shell script on one worker or all."""
        return self._words("tpu-vm", "ssh", name, f"--worker={worker}", f"--command={script}")

    def scp(self, file: str, name: str, target: str) -> list[str]:
        """Words that copy a file to every worker; `target` is relative to the home directory."""
        return self._words("tpu-vm", "scp", file, f"{name}:{target}", "--worker=all")

    def node(self, name: str) -> Mapping[str, Any] | None:
        """The node of this name, or None."""
        return self._found(self.describe(name))

    def request(self, name: str) -> Mapping[str, Any] | None:
        """The queued request of this name, or None."""
        return self._found(self.describe(name, request=True))

    def run(self, words: list[str], timeout: float | None = None) -> bytes:
        """Runs a command and returns what it printed.

        It gets a process group of its own: Ctrl-C reaches baton alone, which then ends it and cleans up.

        Raises:
          Failed: it failed, or took more than `timeout` seconds.
        """
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise Failed("gcloud is not installed: see cloud.google.com/sdk/docs/install", 127) from None
        try:
            out, error = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"gcloud {words[4]} took more than {timeout:.0f} s", None) from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode:
            said = clean(error.decode(errors="replace"))
            raise Failed(_last(said) or f"gcloud {words[4]} failed", process.returncode, said)
        return out

    def _words(self, kind: str, verb: str, *rest: str) -> list[str]:
        project = [f"--project={self.project}"] if self.project else []
        return ["gcloud", "compute", "tpus", kind, verb, *rest, f"--zone={self.zone}", *project, "--quiet"]

    def _found(self, words: list[str]) -> Mapping[str, Any] | None:
        try:
            return json.loads(self.run(words, timeout=120))
        except Failed as error:
            if "NOT_FOUND" in error.said or "was not found" in error.said:
                return None
            raise


def label(of: Mapping[str, Any]) -> str | None:
    """The label of a node or of a queued request: whose it is."""
    nodes = [of, *(spec.get("node", {}) for spec in of.get("tpu", {}).get("nodeSpec", ()))]
    return next((node["labels"][LABEL] for node in nodes if LABEL in node.get("labels", {})), None)


def clean(text: str) -> str:
    """The text without what looks like a credential."""
    return _SECRET.sub(r"\1(hidden)", text)


def _last(said: str) -> str:
    """The line that says what is wrong: gcloud's own `ERROR:` line, else the last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or [""])[-1]
