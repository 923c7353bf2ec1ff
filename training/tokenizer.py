"""The text side: a tokenizer over the words of captions, which understands synonyms and names in other languages.

A word that captions use, and the usual name of each thing, is one token. All other words are spelled with byte-pair
encoding (Sennrich et al., arXiv:1508.07909) on bytes, so that no text in any script is without tokens.

A synonym, a plural, and a name in another language are rewritten as the usual name before the text is cut into tokens,
by the normaliser in `tokenizer.json`: so they mean exactly the same, and cost neither weights nor learning.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from training.captions import ADJECTIVES, ALSO, DOINGS, FILLERS, WORDS_FOR, plural
from training.compose import COLOURS, PLACE_NAMES, RELATIONS
from training.corpus import CACHE, LANGUAGES, Corpus, load_corpus

TOKENIZER = CACHE / "tokenizer"
LENGTH = 48
"""Tokens in a chunk, start and end included. Most captions have fewer; of the longest the end is cut off."""
PIECES = 700
"""Tokens that words are spelled with, beside the bytes."""
MANY = "s"
"""What follows a name that stands for more than one: "foxes" is read as "fox s"."""
START, END = "<|startoftext|>", "<|endoftext|>"
CLASS = "PreTrainedTokenizerFast"
"""What the tokenizer's class is called in every version of transformers; newer ones write another name."""
SPACE = "Ġ"
"""A space as a byte of byte-level encoding."""
FRAME = "a an the of on in with and as to style background painting picture photo two three four five"
"""Words between the others in captions."""
SIGNS = (",", ".", "-", "!", "1", "2", "3", "4", "5", "d", "k")
"""What stands between words, numbers, and what is left of "3d" and "4k" where digits stand by themselves."""
NAMES_EACH = 3
"""Names of one thing in one language, at most: the usual one, and words that people say for it."""
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")
"""Letters of languages that write words without spaces between them."""


def learn_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of all words that captions can hold."""
    if (TOKENIZER / "tokenizer_config.json").exists():
        return PreTrainedTokenizerFast.from_pretrained(TOKENIZER)
    corpus = load_corpus()
    words = [*words_of_captions(), *(each.words[0] for each in corpus.subjects)]
    # Words are spelled with what other words are made of, be they tokens or not.
    texts = [word for each in corpus.subjects for word in each.words] + words
    return train_tokenizer(texts, TOKENIZER, words, other_names(corpus), [*plurals(corpus)])


def train_tokenizer(
    texts: Sequence[str],
    folder: Path,
    words: Sequence[str],
    meant: dict[str, str] | None = None,
    counted: Sequence[str] = (),
) -> PreTrainedTokenizerFast:
    """Learn pieces from texts, add words (or names of several) whole, and write all to `folder`.

    meant: other names → what they are rewritten as. counted: names that may have an "s" behind them for MANY.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = _apart()
    trainer = trainers.BpeTrainer(vocab_size=256 + PIECES, initial_alphabet=letters, show_progress=False)
    learner.train_from_iterator((text.lower() for text in texts), trainer)
    whole = {f"{SPACE}{one_word(word)}" for word in words} | {f"{SPACE}{sign}" for sign in (*SIGNS, MANY)}
    tokens, merges = dict.fromkeys(letters), []
    for pair in json.loads(learner.to_str())["model"]["merges"]:
        # A piece that is a word besides would mean that word wherever another begins with it.
        if {*pair} <= tokens.keys() and "".join(pair) not in whole:
            merges.append(tuple(pair))
            tokens["".join(pair)] = None
    vocabulary = {token: number for number, token in enumerate([*tokens, *sorted(whole), START, END])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token=END, ignore_merges=True))
    cleaning = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    made.normalizer = normalizers.Sequence([*cleaning, *rewriting(meant or {}, words, counted)])
    made.pre_tokenizer, made.decoder = _apart(), decoders.ByteLevel()
    made.post_processor = processors.RobertaProcessing(
        (END, vocabulary[END]), (START, vocabulary[START]), trim_offsets=False, add_prefix_space=False
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=START, eos_token=END, pad_token=END, unk_token=END, model_max_length=LENGTH
    )
    write_tokenizer(fast, folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _apart() -> pre_tokenizers.PreTokenizer:
    """Words, digits and signs one by one, as CLIP cuts them, each with a space before it."""
    words = Regex(r"<\|startoftext\|>|<\|endoftext\|>|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
    parts = pre_tokenizers.Split(words, "removed", invert=True)
    return pre_tokenizers.Sequence([parts, pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)])


def one_word(name: str) -> str:
    """A name as the one word that is its token: "top hat" → "tophat"."""
    return "".join(letter for letter in name.lower() if letter.isalpha())


def rewriting(meant: dict[str, str], words: Sequence[str], counted: Sequence[str]) -> list[normalizers.Normalizer]:
    """Rules that put the word that is a token in the place of each name; those of several words come first.

    A name counts where it is a word; in scripts that have no spaces between words, anywhere.
    """
    made = _rules(meant, words, counted, one_word)
    # A usual name that is a plural, or begins with another one, is read in parts: so its other names are too.
    return _rules(meant, words, counted, normalizers.Sequence(made).normalize_str)


def _rules(
    meant: dict[str, str], words: Sequence[str], counted: Sequence[str], read: Callable[[str], str]
) -> list[normalizers.Normalizer]:
    """The rules of `rewriting`. read: a usual name → what stands in its place."""
    rules: dict[tuple[bool, bool, str], list[str]] = {}
    whole = {name: name for name in words if name != one_word(name)}
    for name, usual in (meant | whole).items():
        unspaced = bool(_UNSPACED.search(name))
        short = len(name) == 1 if unspaced else " " not in name
        rules.setdefault((short, unspaced, usual), []).append(name.lower())
    made: list[normalizers.Normalizer] = []
    if counted:
        made.append(normalizers.Replace(Regex(rf"(?<={_any_of(counted)})s\b"), f" {MANY}"))
    for (_, unspaced, usual), names in sorted(rules.items()):
        many = f" {MANY}" if usual.endswith(f" {MANY}") else ""
        content = read(usual.removesuffix(many)) + many
        pattern = rf"\b(?:{_any_of(names)})\b"
        if unspaced:
            pattern, content = f" ?(?:{_any_of(names)}) ?", f" {content} "
        made.append(normalizers.Replace(Regex(pattern), content))
    return made


def _any_of(names: Sequence[str]) -> str:
    """A pattern for any of these, the longest first."""
    ways = [re.sub(r"([^\w\s])", r"\\\1", name) for name in sorted(names, key=len, reverse=True)]
    return "|".join(ways)


def write_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write it into a folder of its own, without the spaces that make up a third of the file."""
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")), ensure_ascii=False, separators=(",", ":")), "utf-8")
    config = folder / "tokenizer_config.json"
    told = json.loads(config.read_text("utf-8")) | {"tokenizer_class": CLASS}
    here = ("is_local", "local_files_only")  # of the machine that it was written on
    config.write_text(json.dumps({key: value for key, value in told.items() if key not in here}, indent=2), "utf-8")


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """Token ids, each row LENGTH long: start, words, end, padding."""
    return tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH).input_ids


def words_of_captions() -> list[str]:
    """The words between names."""
    texts = [FRAME, *PLACE_NAMES, *COLOURS, *RELATIONS, *ADJECTIVES, *DOINGS, *FILLERS]
    texts += [words for ways in (*WORDS_FOR.values(), *ALSO.values()) for words in ways]
    return [*dict.fromkeys(word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower()))]


def plurals(corpus: Corpus) -> dict[str, str]:
    """Usual names that are counted with an "s" → their plural."""
    names = {each.words[0]: plural(each.words[0]) for each in corpus.subjects}
    return {name: many for name, many in names.items() if many == f"{name}s"}


def _runs(name: str) -> set[str]:
    """The words of a name, and all that stand one after the other in it."""
    words = [*re.finditer(r"\w+", name)]
    return {name[first.start() : last.end()] for number, first in enumerate(words) for last in words[number:]}


def other_names(corpus: Corpus) -> dict[str, str]:
    """What things are called → their usual names: synonyms, plurals that take more than an "s", other languages.

    Words of captions and usual names mean what they say, also where another language has the word for something else
    ("and" is a Danish duck).
    """
    usual_names = {each.words[0] for each in corpus.subjects}
    taken = {*words_of_captions(), *usual_names, *plurals(corpus).values()}
    found: dict[str, str] = {}
    # Names of several words are read first, so that a single word does no harm within them; but some are read in parts.
    runs = {name: _runs(name) - {name} for name in usual_names}
    inside = {name: runs[name] | {run.removesuffix("s") for run in runs[name]} for name in usual_names}
    parts = {name for name in usual_names if name.endswith("s") or inside[name] & usual_names}
    alone = {name for name in taken if " " not in name or name in parts}
    within = {several: set().union(*map(_runs, taken if several else alone)) for several in (False, True)}

    def add(name: str, meaning: str) -> None:
        if name not in taken and name not in within[" " in name]:
            found.setdefault(name, meaning)

    for subject in corpus.subjects:
        usual = subject.words[0]
        add(plural(usual), f"{usual} {MANY}")
        for word in subject.words[1:]:
            add(word, usual)
            add(plural(word), f"{usual} {MANY}")
    for language in LANGUAGES:
        for subject in corpus.subjects:
            names = subject.tongues.get(language, ())
            # Where a label has several words ("the head of a fox"), people ask with the one among them that names it.
            stems = tuple(word[:3] for word in names[0].split()) if names else ()
            ways = [name for name in names if name == names[0] or name.startswith(stems)]
            for name in ways[:NAMES_EACH]:
                add(name, subject.words[0])
    return found
