"""What the few commands that the simulation knows do. Pure."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a command does: its output, how long it runs (None: until stopped) and its exit code."""

    stdout: bytes = b""
    stderr: bytes = b""
    runs_s: float | None = 0.0
    exit_code: int = 0
    echoes_stdin: bool = False


def behaviour_of(command: Sequence[str], environment: Mapping[str, str]) -> Behaviour | None:
    """What the few commands that the simulation knows do; None for others. A shell's script is taken line by line, without
    loops, pipes or conditions: a script with those is one that runs until it is stopped."""
    if not command:
        return None
    program, arguments = command[0].rpartition("/")[2], command[1:]
    if program in ("sh", "bash", "ash") and len(arguments) >= 2 and arguments[0] == "-c":
        return _script(arguments[1], environment)
    if program == "echo":
        return Behaviour(stdout=" ".join(arguments).encode() + b"\n")
    if program in ("true", ":", "false"):
        return Behaviour(exit_code=int(program == "false"))
    if program == "sleep":
        return Behaviour(runs_s=_seconds(arguments[0] if arguments else "0"))
    if program == "exit":
        return Behaviour(exit_code=int(arguments[0]) if arguments and arguments[0].isdigit() else 0)
    if program == "env":
        return Behaviour(stdout="".join(f"{key}={value}\n" for key, value in environment.items()).encode())
    if program == "hostname":
        return Behaviour(stdout=environment.get("HOSTNAME", "").encode() + b"\n")
    if program == "cat" and not arguments:
        return Behaviour(echoes_stdin=True)
    if program in ("sh", "bash", "ash") and not arguments:
        return Behaviour(echoes_stdin=True)
    return None


def _script(text: str, environment: Mapping[str, str]) -> Behaviour:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|<>()\n")
    lexer.whitespace, lexer.whitespace_split = " \t", True
    try:
        words = list(lexer)
    except ValueError:
        return Behaviour(stderr=b"sh: syntax error\n", exit_code=2)
    stdout, stderr, runs_s, code = b"", b"", 0.0, 0
    command: list[str] = []
    for word in [*words, ";"]:
        if word.strip(";&\n") != "" or not word:
            if set(word) & set("|<>()") or word in ("while", "for", "if", "until", "trap", "exec"):
                return Behaviour(stdout, stderr, None)
            command.append(environment.get(word[1:].strip("{}"), "") if word.startswith("$") else word)
            continue
        if not command:
            continue
        behaviour = behaviour_of(command, environment)
        if behaviour is None:
            if word == "&&" or words:
                return Behaviour(stdout, stderr + f"sh: {command[0]}: not found\n".encode(), runs_s, 127)
        else:
            stdout, stderr, code = stdout + behaviour.stdout, stderr + behaviour.stderr, behaviour.exit_code
            if behaviour.runs_s is None:
                return Behaviour(stdout, stderr, None)
            runs_s += behaviour.runs_s
            if command[0] == "exit" or (word == "&&" and code):
                break
        command = []
    return Behaviour(stdout, stderr, runs_s, code)


def _seconds(text: str) -> float | None:
    """None for a sleep without end."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    factor = units.get(text[-1:], 0)
    try:
        return float(text[:-1]) * factor if factor else float(text)
    except ValueError:
        return None
