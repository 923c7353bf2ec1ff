"""What people would type for a picture: the same plan in many wordings."""

from __future__ import annotations

import numpy as np

from training.compose import NUMBERS, PLAIN, Plan, Thing
from training.corpus import Corpus, Subject

ALSO = {
    "on a meadow": ("in a park", "in the grass", "in a garden", "in a field"),
    "on a beach": ("at the sea", "on the sand"),
    "in the desert on Mars": ("on Mars",),
    "in the snow": ("in winter", "in the ice"),
    "under a starry sky": ("in space", "at night"),
    "in a forest": ("in the jungle", "in the woods"),
    "underwater": ("in the sea", "in the ocean"),
    "in the clouds": ("in the sky",),
    "at sunset": ("at dusk",),
    "in a city": ("in the street", "in a town"),
    "on a wooden floor": ("on the floor", "in a room"),
}
"""Places by other names, and those that come nearest."""

OUTDOORS = (
    *("on a meadow", "on a beach", "in the desert", "in the desert on Mars", "on the moon", "in the snow"),
    *("under a starry sky", "at sunset", "in a forest", "in a city"),
)
"""Places that are landscapes where nothing else is in the picture."""

UNCOUNTED = {"honey", "coffee", "corn", "rice", "bread", "cheese", "fire", "bacon", "tea", "sake"}
IRREGULAR = {"mouse": "mice", "wolf": "wolves", "leaf": "leaves", "fish": "fish", "sheep": "sheep", "deer": "deer"}
IRREGULAR |= {"person": "people", "child": "children", "foot": "feet", "tooth": "teeth", "knife": "knives"}

WORDS_FOR = {
    "3d render": ("3d render", "3d model", "cgi"),
    "flat illustration": ("flat illustration", "vector illustration", "flat vector art", "illustration"),
    "cartoon": ("cartoon", "cartoon drawing", "comic drawing"),
    "sticker": ("sticker", "die-cut sticker"),
    "oil painting": ("oil painting", "painting", "oil on canvas", "painting in oil"),
    "watercolor": ("watercolor", "watercolor painting", "watercolour"),
    "pencil sketch": ("pencil sketch", "pencil drawing", "sketch", "graphite drawing"),
    "ink line drawing": ("ink line drawing", "ink drawing", "line art", "line drawing"),
    "pastel": ("pastel", "pastel drawing", "chalk pastel"),
    "charcoal": ("charcoal", "charcoal drawing"),
    "pixel art": ("pixel art", "8-bit pixel art", "pixelated"),
    "mosaic": ("mosaic", "tile mosaic"),
    "stained glass": ("stained glass", "stained glass window"),
    "pointillism": ("pointillism", "pointillist painting"),
    "cubism": ("cubism", "cubist painting"),
    "woodcut": ("woodcut", "woodcut print", "woodblock print"),
    "sepia photo": ("sepia photo", "old photo", "sepia photograph"),
    "neon": ("neon", "neon sign", "neon lights"),
}
"""The one of MEDIA that a picture looks like → what people call it, the usual word first."""

FILLERS = (
    "highly detailed", "masterpiece", "best quality", "beautiful", "very cute", "award winning", "trending", "4k",
    "sharp focus", "soft light", "dramatic light", "concept art", "thick paint on canvas", "visible brush strokes",
    "washes of colour", "wet on wet", "white paper showing through", "clean lines", "bold outlines", "bright colours",
    "muted colours", "few colours", "simple shapes", "fine details", "by a famous artist", "in my favourite style",
    "studio light", "smooth materials", "I would like to see", "please draw", "a picture of", "an image with",
    "made with love", "for a children's book", "wallpaper", "poster", "closeup", "wide angle", "cinematic",
)  # fmt: skip
"""Words that ask for nothing that can be drawn: a caption with them means what it means without them."""

ADJECTIVES = ("cute", "beautiful", "happy", "little", "big", "old", "funny", "lovely", "fluffy", "tiny", "giant")
DOINGS = ("sitting", "standing", "lying", "playing", "sleeping", "resting", "waiting", "seen from the front")
"""Words before and after a thing that change nothing either: there is one picture of it in each set."""


def article(words: str) -> str:
    """ "a cat", "an apple", and no article before plurals and things one cannot count."""
    plural = (words.endswith("s") and not words.endswith(("ss", "us", "dress"))) or words in UNCOUNTED
    return words if plural else f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def plural(words: str) -> str:
    """More than one of a thing."""
    *before, last = words.split()
    if last in IRREGULAR:
        many = IRREGULAR[last]
    elif last.endswith("s") and not last.endswith(("ss", "us")):
        many = last
    elif last.endswith(("ss", "us", "x", "ch", "sh")):
        many = f"{last}es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        many = f"{last[:-1]}ies"
    else:
        many = f"{last}s"
    return " ".join((*before, many))


def thing_in_words(rng: np.random.Generator, thing: Thing, subject: Subject) -> str:
    """A thing with its number, colour and article, in one of the ways people put it."""
    word = subject.words[0] if rng.random() < 0.6 else str(rng.choice(subject.words))
    if thing.colour:
        word = f"{thing.colour} {word}"
    if rng.random() < 0.12:
        word = f"{rng.choice(ADJECTIVES)} {word}"
    if thing.count > 1:
        number = NUMBERS[thing.count] if rng.random() < 0.8 else str(thing.count)
        return f"{number} {plural(word)}"
    return article(word) if rng.random() < 0.75 else word


def caption(rng: np.random.Generator, corpus: Corpus, plan: Plan) -> str:
    """A caption for a plan. What it leaves out is left to chance, as it is for the person who asks."""
    things = [thing_in_words(rng, thing, corpus.subjects[thing.subject]) for thing in plan.things]
    place = place_in_words(rng, plan.place)
    if not things:
        core = scene_in_words(rng, plan.place, place)
    else:
        core = things[0] if len(things) == 1 else f"{things[0]} {plan.relation} {things[1]}"
        if rng.random() < 0.06:
            core += f" {rng.choice(DOINGS)}"
        if rng.random() < 0.8:
            core += (", " if rng.random() < 0.4 else " ") + place
    named = rng.random() < (0.9 if plan.medium else 0.7)
    words = with_medium(rng, core, WORDS_FOR[plan.seen_as]) if named else core
    if rng.random() < 0.22:
        words = with_fillers(rng, words)
    return words.capitalize() if rng.random() < 0.1 else words


def place_in_words(rng: np.random.Generator, place: str) -> str:
    """A place in one of the ways people put it, the usual one most often."""
    usual, *others = _plain_ways(place) if place in PLAIN else (place, *ALSO.get(place, ()))
    return str(rng.choice(others)) if others and rng.random() < 0.25 else usual


def scene_in_words(rng: np.random.Generator, place: str, called: str) -> str:
    """A place with nothing in it. called: what it is called where a thing is in it."""
    core = called.removeprefix("in front of ")
    core = core.split(" ", 1)[1] if core.startswith(("on ", "in ", "at ")) else core
    if place not in OUTDOORS or rng.random() < 0.4:
        return core
    large = "large " if rng.random() < 0.4 else ""
    ways = [f"a {large}landscape {called}", f"{large}landscape, {called}", f"a {large}landscape"]
    words = core.split()
    if len(words) == 2:  # an article and a name
        ways += [f"a {large}{words[1]} landscape"] * 3
    return str(rng.choice(ways))


def _plain_ways(place: str) -> tuple[str, ...]:
    colour = place.removeprefix("on a ").removesuffix(" background")
    return f"on {article(colour)} background", f"{colour} background", f"in front of {article(colour)} background"


def with_medium(rng: np.random.Generator, core: str, words: tuple[str, ...]) -> str:
    """What is shown, and in which medium. words: what people call the medium, the usual word first."""
    medium = words[0] if rng.random() < 0.6 else str(rng.choice(words))
    ways = [
        f"{core}, {medium}",
        f"{medium} of {core}",
        f"{article(medium)} of {core}",
        f"{medium}, {core}",
        f"{core} as {article(medium)}",
        f"{core} in the style of {article(medium)}",
    ]
    return str(rng.choice(ways, p=(0.3, 0.2, 0.2, 0.14, 0.08, 0.08)))


def with_fillers(rng: np.random.Generator, words: str) -> str:
    """Words, and others around them that ask for nothing that can be drawn."""
    parts = [words] if words else []
    for _ in range(int(rng.integers(1, 4))):
        filler = str(rng.choice(FILLERS)) if rng.random() < 0.75 else _nonsense(rng)
        parts.insert(int(rng.integers(len(parts) + 1)), filler)
    return ", ".join(parts)


def _nonsense(rng: np.random.Generator) -> str:
    """A word that nobody knows, so that unknown words are learnt to mean nothing."""
    syllables = ("ka", "lo", "mi", "ter", "zan", "bru", "fel", "ost", "ri", "vu", "quen", "dar", "isto", "phe", "nol")
    return "".join(str(rng.choice(syllables)) for _ in range(int(rng.integers(2, 5))))
