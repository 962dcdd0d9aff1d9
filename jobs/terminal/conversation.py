"""A person types prompts at a terminal, reads the texts there, and changes settings in between."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass, field, replace

from pipeline.config import Layout
from pipeline.data.tokenizer import Tokenizer
from pipeline.errors import UserError
from pipeline.generate.writing import generate
from pipeline.model.language_model import LanguageModel
from pipeline.options import Sampling

HELP = "type a prompt to have it continued; /set NAME VALUE changes tokens, seed or an option; Ctrl-D ends"
MOST_TOKENS = 10**9
# what /set changes, and how its value is read
KINDS = {
    "tokens": int,
    "seed": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
}


@dataclass
class Conversation:
    """A model and the settings with which it generates."""

    model: LanguageModel
    tokenizer: Tokenizer
    tokens: int
    seed: int
    sampling: Sampling = field(default_factory=Sampling)
    stops: tuple[str, ...] = ()
    layout: Layout = "streams"

    def run(self) -> None:
        """Read prompts from the terminal until its end. A mistake is reported, and the conversation continues."""
        print(HELP, file=sys.stderr)
        if isinstance(sys.stdin, io.TextIOWrapper):  # a line that is not UTF-8 is a mistake like others
            sys.stdin.reconfigure(errors="surrogateescape")
        while True:
            try:
                line = input("> ")
            except EOFError:
                print()
                return
            try:
                if line.startswith("/set"):
                    self.change(line.split()[1:])
                elif line:
                    self.show(line)
            except UserError as error:
                print(f"error: {error}", file=sys.stderr)

    def show(self, prompt: str) -> tuple[str, int]:
        """Continue ``prompt`` on the terminal while tokens are drawn; return the text and its number of tokens.

        Raises:
            UserError: the prompt cannot be read.
        """
        drawn: list[int] = []
        pieces = generate(
            self.model,
            self.tokenizer,
            prompt,
            num_tokens=self.tokens,
            seed=self.seed,
            sampling=self.sampling,
            stops=self.stops,
            layout=self.layout,
            on_token=drawn.append,
        )
        text = ""
        print(prompt, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
            text += piece
        print()
        return text, len(drawn)

    def change(self, words: list[str]) -> None:
        """Apply ``/set NAME VALUE``. Raises ``UserError`` for an unknown name or a bad value."""
        name = words[0].replace("-", "_") if words else ""
        if len(words) != 2 or name not in KINDS:
            raise UserError(f"/set takes a name and a value; the names are {', '.join(KINDS)}")
        try:
            value = KINDS[name](words[1])
        except ValueError:
            raise UserError(f"/set {name}: {words[1]!r} is not a number") from None
        if name == "seed":
            self.seed = int(value)
        elif name != "tokens":
            self.sampling = replace(self.sampling, **{name: value})
        elif not 1 <= value <= MOST_TOKENS:
            raise UserError(f"/set tokens: {value} is not between 1 and {MOST_TOKENS:,}")
        else:
            self.tokens = int(value)
