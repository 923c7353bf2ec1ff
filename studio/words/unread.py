"""What of a prompt looks like a sign but is none here: said under the prompt, so that nothing is drawn in silence.

For a prompt in which wildcards and choices are made and from which the LoRAs' tags are taken, so what is left of these
was not understood.
"""

import re

from studio.words import prompts

_SIGNS = (
    (r"<(?i:lora|lyco):[^<>]*(?:\Z|(?=<))", "{} is never closed, and read as words: end it with >"),
    (r"<\s*[^\W\d]\w*\s*:[^<>]*>?", "{} is no tag, and read as words: a LoRA is written <lora:name:0.8>"),
    (r"(?<!\\)\$\{[^{}]*\}?", "{} has no value, and is read as it stands: ${{name=words}} before it would give it one"),
    (r"(?<!\\)\{[^{}]*\}", "{} is no choice, and is read as it stands: a choice is {{red|blue}}"),
    (r"(?<!\\)[{}][^{}]{0,20}", "{} lacks its other brace, and is read as it stands"),
    (r"\S{0,12}\$\$", "{} is read as it stands: several are chosen by {{2$$red|green|blue}}"),
    (r"__[^\W_](?:(?!__).)*__", "{} is no wildcard, and is read as words"),
    (
        r"\(([^()\[\]:]*):\s*(?=[^()]*\d)(?:\d*[,]\d+|[\d.]+[eE][+-]?\d+|\d*\.\d*\.[\d.]*)\s*\)",
        "{} gives no weight: write (red:1.2)",
    ),
    (r"\[[^\[\]:|]*:[^\[\]:|]*:[^\[\]:|]*\]", "{} changes nothing on the way, only weighs less: its end is no number"),
)
"""What to look for, and what to say of it; of each the first that is found."""

_COMPILED = tuple((re.compile(sign), sentence) for sign, sentence in _SIGNS)


def remarks(text: str) -> list[str]:
    """A remark on each kind of sign in a prompt that is read as words."""
    text = prompts.at(text, 0, 20)
    found = []
    for sign, sentence in _COMPILED:
        if match := sign.search(text):
            found.append(sentence.format(_short(match[0])))
            text = sign.sub(" ", text)  # what was named is not named again as something else
    return found


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 40 else f"{text[:39]}…"
