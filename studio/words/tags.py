"""What a prompt says of LoRAs and embeddings: the one grammar of their tags and names.

A prompt names LoRAs as stable-diffusion-webui does: `<lora:name>`, `<lora:name:0.8>`, `<lora:name:text:unet>` with a
weight for the text encoders and one for the denoiser, or `<lora:name:te=0.5:unet=0.8>`
(extensions-builtin/Lora there). `<lyco:…>` is the same, and either may be written in any case. An embedding is named by
its file's name anywhere in the prompt, or as ComfyUI does it, `embedding:name`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from studio.errors import RecipeError
from studio.files.addons import ENDING, File, chosen, last, without_ending

MAX_WEIGHT = 20.0

_TAG = re.compile(r"<(?:lora|lyco):([^<>]*)>", re.IGNORECASE)
_NAMED = ("te", "unet", "dyn")
"""What can be named in a tag. The last is a rank, which nothing here makes use of."""
_ASKED = re.compile(r"(?<![\w-])embedding:([^\s,:()\[\]<>]{1,200})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA that a prompt asks for: its name, and its weights in the text encoders and in the denoiser.

    file: where it is, once it was looked up.
    """

    name: str
    text: float = 1.0
    denoiser: float = 1.0
    file: File | None = None


def split(text: str) -> tuple[str, tuple[Lora, ...]]:
    """The prompt without its LoRA tags, and the LoRAs in the order of their first tags. Raises RecipeError.

    What a tag stood between is left as it is, so that a prompt with a tag reads as the same prompt without. A LoRA that
    is named twice has the sum of its weights.
    """
    found: dict[str, Lora] = {}
    for match in _TAG.finditer(text):
        lora = _read(match[1], match[0])
        before = found.get(lora.name, Lora(lora.name, 0.0, 0.0))
        found[lora.name] = Lora(lora.name, before.text + lora.text, before.denoiser + lora.denoiser)
    if not found:
        return text, ()
    return re.sub(r"[ \t]*" + _TAG.pattern, "", text, flags=re.IGNORECASE).strip(), tuple(found.values())


def _read(inside: str, tag: str) -> Lora:
    name, *rest = (part.strip() for part in inside.split(":"))
    named = dict(part.split("=", 1) for part in rest if "=" in part)
    plain = [part for part in rest if "=" not in part]
    if not name:
        raise RecipeError(f"{tag[:60]} names no LoRA. Write, say, <lora:name:0.8>.", "prompt")
    text = _weight(named.get("te", plain[0] if plain else "1"), tag)
    # A third number is a rank in webui's tags, which nothing here makes use of.
    return Lora(name, text, _weight(named.get("unet", plain[1] if len(plain) > 1 else str(text)), tag))


def names(text: str) -> list[str]:
    """The names of the LoRAs that a prompt asks for, each once."""
    return list(dict.fromkeys(filter(None, (tag[1].partition(":")[0].strip() for tag in _TAG.finditer(text)))))


def weighed(text: str, name: str, weight: str) -> str:
    """The prompt with another weight in each tag of this LoRA, in place of all that its tags said."""

    def anew(tag: re.Match[str]) -> str:
        return f"<lora:{name}:{weight}>" if tag[1].partition(":")[0].strip() == name else tag[0]

    return _TAG.sub(anew, text)


def with_hashes(text: str, hashes: Mapping[str, str]) -> str:
    """The prompt with the hash of each LoRA in its tag, `<lora:ink:0.8:hash=…>`, for `named_here`. hashes: by name."""

    def told(tag: re.Match[str]) -> str:
        digits = hashes.get(tag[1].partition(":")[0].strip())
        return f"{tag[0][:-1]}:hash={digits}>" if digits else tag[0]

    return _TAG.sub(told, text)


def named_here(text: str, name_of: Callable[[str, str], str]) -> str:
    """The prompt in which LoRAs that have a hash in their tags are called by what `name_of` a name and a hash is."""

    def anew(tag: re.Match[str]) -> str:
        name, *rest = tag[1].split(":")
        digits = next((each.removeprefix("hash=") for each in rest if each.startswith("hash=")), "")
        rest = [each for each in rest if not each.startswith("hash=")]
        return f"<lora:{':'.join([name_of(name.strip(), digits), *rest])}>" if digits else tag[0]

    return _TAG.sub(anew, text)


def _weight(text: str, tag: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise RecipeError(f"{text[:40]!r} in {tag[:60]} is no weight. Write, say, <lora:name:0.8>.", "prompt") from None
    if not abs(value) <= MAX_WEIGHT:
        raise RecipeError(
            f"The weight {text[:40]} in {tag[:60]} is out of range. Use -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}.", "prompt"
        )
    return value


def remark(negative_prompt: str) -> str:
    """A sentence on tags that have no effect; empty if there are none."""
    _, loras = split(negative_prompt)
    names = ", ".join(lora.name for lora in loras)
    return f"In the negative prompt a LoRA has no effect: {names} is left out." if names else ""


def remarks(text: str) -> list[str]:
    """What is said in tags and is not read, as remarks under the prompt."""
    named = [part.partition("=") for tag in _TAG.finditer(text) for part in tag[1].split(":")[1:]]
    other = dict.fromkeys(name.strip() for name, sign, _ in named if sign and name.strip() not in _NAMED)
    return [f"{name[:40]}= in a LoRA's tag has no effect" for name in other]


def embeddings_in(
    texts: Iterable[str],
    found: Mapping[str, Path],
    allow_pickles: bool = False,
    fits: Callable[[Path], bool] = lambda path: True,
) -> tuple[File, ...]:
    """The embeddings that stand in the texts by the last part of their names, longest first, in any case.

    fits: whether one can belong to the model. What cannot is a word like any other, unless it says `embedding:`.
    Raises ModelUnsafe for a pickle.
    """
    files = []
    for name, is_asked in _named(texts, found):
        if is_asked or fits(found[name]):
            files.append(replace(chosen(name, found, "embedding", allow_pickles), name=Path(name).name))
    return tuple(files)


def embedding_remarks(text: str, found: Mapping[str, Path], fits: Callable[[Path], bool]) -> list[str]:
    """Which words of the prompt are embeddings, or only bear the name of one, as remarks under the prompt."""
    named = [(Path(name).name, is_asked or fits(found[name])) for name, is_asked in _named([text], found)]
    used, words = ([name for name, is_used in named if is_used is wanted] for wanted in (True, False))
    there = {Path(name).name.lower() for name in found}
    asked = (last(without_ending(match[1])) for match in _ASKED.finditer(text))
    missing = dict.fromkeys(name for name in asked if name.lower() not in there)
    return [
        *([f"with the embedding{'s' * (len(used) > 1)} {', '.join(used)}"] if used else []),
        *(f"{name} is a word: the embedding of that name is for other models" for name in words),
        *(f"there is no embedding {name[:40]}: it is read as words" for name in missing),
    ]


def _named(texts: Iterable[str], found: Mapping[str, Path]) -> Iterable[tuple[str, bool]]:
    """The names of embeddings that stand in the texts, longest first, and whether it says `embedding:` before one."""
    text = "\n".join(texts)
    for name in sorted(found, key=lambda name: (-len(Path(name).name), name)):
        if Path(name).name.lower() not in text.lower():
            continue  # of thousands most are not there, and a search for words is slow
        word = _as_word(Path(name).name)
        asked = [match["asked"] is not None for match in word.finditer(text)]
        if asked:
            text = word.sub(" ", text)
            yield name, any(asked)


def replaced(text: str, words: Mapping[str, str]) -> str:
    """The text with the names of embeddings replaced, longest first."""
    for name in sorted(words, key=lambda name: (-len(name), name)):
        text = _as_word(name).sub(lambda _, word=words[name]: word, text)  # type: ignore[misc]
    return text


def _as_word(name: str) -> re.Pattern[str]:
    asked = rf"(?P<asked>embedding:)(?:[^\s,:()\[\]]{{0,200}}[/\\])?{re.escape(name)}(?:{ENDING})?"
    return re.compile(rf"(?<![\w-])(?:{asked}|{re.escape(name)})(?![\w-])", re.IGNORECASE)


def located(loras: Iterable[Lora], found: Mapping[str, Path]) -> tuple[Lora, ...]:
    """The LoRAs with their files; those of no weight at all left out. Raises as `chosen` does.

    One that is named in two ways has the sum of its weights, as one that is named twice.
    """
    by_file: dict[File, Lora] = {}
    for lora in loras:
        file = chosen(lora.name, found, "LoRA")
        before = by_file.get(file, Lora(lora.name, 0.0, 0.0))
        by_file[file] = Lora(before.name, before.text + lora.text, before.denoiser + lora.denoiser, file)
    return tuple(lora for lora in by_file.values() if lora.text or lora.denoiser)
