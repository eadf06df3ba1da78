"""`solar chat`: a question, or a conversation, through the gateway."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from solar.cli.names import model_names
from solar.cli.options import asks_gateway, json_option

if TYPE_CHECKING:
    from solar.cli.client import Client

    Put = Callable[[str, str], None]  # a piece of text, and its style

INTERRUPTED = 130


@click.command()
@click.argument("model", shell_complete=model_names)
@click.argument("prompt", nargs=-1)
@click.option("--system", metavar="TEXT", help="What the model is told before all else.")
@click.option("--temperature", type=float, metavar="T", help="How freely it chooses words.")
@click.option("--max-tokens", type=int, metavar="N", help="How long an answer may be.")
@json_option
@asks_gateway
def chat(
    client: Client,
    model: str,
    prompt: tuple[str, ...],
    system: str | None,
    temperature: float | None,
    max_tokens: int | None,
    as_json: bool,
) -> None:
    """Ask MODEL, and show its answer as it comes.

    Without PROMPT: a conversation on a terminal, which Ctrl-D ends; else the question is read from standard input.
    Ctrl-C stops an answer, and at the prompt the program. With --json each event of the stream is a line.
    """
    asked = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
    question = Question(client, {name: value for name, value in asked.items() if value is not None}, as_json)
    if system is not None:
        question.messages.append({"role": "system", "content": system})
    text = " ".join(prompt)
    if not text and sys.stdin.isatty():
        sys.exit(_converse(question))
    text = text or sys.stdin.read()
    if not text.strip():
        raise click.UsageError("there is no question: give PROMPT, or write it to standard input")
    if not question.ask(text):
        sys.exit(INTERRUPTED)


class Question:
    """A conversation so far, and the next question of it."""

    def __init__(self, client: Client, settings: dict[str, Any], as_json: bool) -> None:
        self.messages: list[dict[str, str]] = []
        self._client = client
        self._settings = settings
        self._as_json = as_json

    def ask(self, text: str) -> bool:
        """Show the answer, and keep both; False where it was interrupted. Raises Refused where there is none."""
        from solar.cli.client import Refused

        self.messages.append({"role": "user", "content": text})
        body = {**self._settings, "messages": self.messages, "stream": True}
        answer: list[str] = []
        try:
            with contextlib.closing(self._client.stream("/v1/chat/completions", body)) as lines:
                self._show(lines, answer)
            return True
        except Refused as refused:
            if not answer:
                self.messages.pop()
            raise self._advised(refused) from None
        except KeyboardInterrupt:
            return False
        finally:
            if answer:
                self.messages.append({"role": "assistant", "content": "".join(answer)})

    def _show(self, lines: Iterator[bytes], answer: list[str]) -> None:
        """Print pieces as they come, and put those of the answer itself into `answer`."""
        from solar.cli.show import put_line, writing

        with writing(quiet=self._as_json) as put:
            thought = ended = False
            for event in events(lines):
                if self._as_json:
                    put_line(event)
                ended = ended or finished(event)
                thinking, said = pieces(event)
                if thinking and sys.stdout.isatty():  # a pipe wants the answer only
                    put(thinking, "dim")
                    thought = True
                if said:
                    put(f"\n\n{said}" if thought and not answer else said, "")
                    answer.append(said)
            if not ended:
                from solar.cli.client import Refused

                raise Refused("the answer broke off before its end")

    def _advised(self, refused: Exception) -> Exception:
        """With the model that was probably meant."""
        from solar.cli.client import Refused
        from solar.config.fields import nearest

        if not isinstance(refused, Refused) or refused.code != "model_not_found":
            return refused
        model = self._settings["model"]
        names = [str(one.get("id")) for one in self._client.get("/v1/models")["data"]]
        known = (
            nearest(model, names) or f"; there {'is' if len(names) == 1 else 'are'}: {', '.join(names[:10]) or 'none'}"
        )
        return Refused(f"there is no model {model!r}{known}", refused.status, refused.code)


def events(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """The events of a stream; of an answer that is none, all of it as one. Raises Refused where it says an error."""
    from solar.cli.client import Refused

    other: list[bytes] = []
    for line in lines:
        if not line.startswith(b"data:"):
            other.append(line)
            continue
        told = line.removeprefix(b"data:").strip()
        if told == b"[DONE]":
            yield {"done": True}
            return
        yield _event(told, Refused)
    whole = b"\n".join(other).strip()
    if whole.startswith(b"{"):  # some engines know no streams
        yield _event(whole, Refused)


def _event(told: bytes, wrong: Callable[[str], Exception]) -> dict[str, Any]:
    try:
        event = json.loads(told)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise wrong("the answer holds what is no JSON object")
    if (error := event.get("error")) is not None:
        message = error.get("message") if isinstance(error, dict) else error
        raise wrong(f"the answer broke off: {message}")
    return event


def pieces(event: dict[str, Any]) -> tuple[str, str]:
    """What an event adds to the model's thoughts, and to its answer."""
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    told = choice.get("delta") or choice.get("message")
    if not isinstance(told, dict):
        return "", ""
    thinking = told.get("reasoning_content") or told.get("reasoning")
    said = told.get("content")
    return thinking if isinstance(thinking, str) else "", said if isinstance(said, str) else ""


def finished(event: dict[str, Any]) -> bool:
    """Whether the stream says by this event that it is whole."""
    choices = event.get("choices")
    ends = isinstance(choices, list) and any(isinstance(one, dict) and one.get("finish_reason") for one in choices)
    return ends or "done" in event


def _converse(question: Question) -> int:
    from solar.cli.client import Refused, Unreachable

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # what is typed can be edited, and called back
    print("Ctrl-D ends the conversation, Ctrl-C an answer.", file=sys.stderr)
    while True:
        try:
            text = input("> ")
        except EOFError:
            print()
            return 0
        except KeyboardInterrupt:
            print()
            return INTERRUPTED
        if not text.strip():
            continue
        try:
            question.ask(text)
        except (Refused, Unreachable) as error:
            error.show()
