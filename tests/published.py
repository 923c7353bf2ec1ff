"""Headers of published files: `headers/cases.tsv` has a line for each, `headers/keys.tar.xz` the names and shapes.

`python -m tests.published` prints what the catalog makes of each of them.
"""

import csv
import json
import math
import struct
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from studio.files.headers import BITS, Tensor
from studio.models.catalog import Catalog, Entry

HEADERS = Path(__file__).parent / "headers"
_TYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "int64": "I64", "int32": "I32", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip

Tensors = dict[str, Tensor]


class Case(NamedTuple):
    """A published file. keys: the set of names and shapes that it has. note: what else should be said of it."""

    file: str
    keys: str
    kind: str
    base: str
    note: str

    @property
    def place(self) -> str:
        return f"{self.file}.safetensors"


def cases() -> list[Case]:
    with open(HEADERS / "cases.tsv", encoding="utf-8", newline="") as file:
        return [Case(*(row[name] or "" for name in Case._fields)) for row in csv.DictReader(file, delimiter="\t")]


def key_sets() -> dict[str, Tensors]:
    """Every set of tensors, by its name."""
    found = {}
    with tarfile.open(HEADERS / "keys.tar.xz") as archive:
        for member in archive:
            if (file := archive.extractfile(member)) is not None:
                told = json.load(file).items()
                found[Path(member.name).stem] = {
                    name: Tensor(_TYPES[kind], tuple(shape)) for name, (kind, shape) in told
                }
    return found


def write(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    """A file with these tensors, all zero, that takes hardly more than its header on disk."""
    entries: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + math.prod(tensor.shape) * BITS[tensor.dtype] // 8
        entries[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (begin, end)}
    text = json.dumps(entries).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


def judged(folder: Path) -> list[tuple[Case, Entry]]:
    """Every case as the catalog sees it in one folder of no kind, among all others, with the tokenizers there."""
    sets = key_sets()
    for case in cases():
        write(folder / "files" / case.place, sets[case.keys])
    clip_g = {"text_model.embeddings.token_embedding.weight": Tensor("F16", (49408, 1280))}
    write(folder / "text_encoders/clip_g.safetensors", clip_g)
    vae = {
        "decoder.conv_in.weight": (512, 32, 3, 3),
        "decoder.conv_out.weight": (3, 128, 3, 3),
        "bn.running_mean": (128,),
    }
    write(folder / "vae/flux2-vae.safetensors", {name: Tensor("F32", shape) for name, shape in vae.items()})
    for name, kind in (("t5", "T5Tokenizer"), ("qwen", "Qwen2Tokenizer")):
        home = folder / f"{name}_tokenizer"
        home.mkdir(parents=True)
        (home / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
        for each in ("tokenizer.json", "vocab.json", "merges.txt", "spiece.model"):
            (home / each).write_text("{}")
    entries = {each.path.name: each for each in Catalog([folder]).everything()}
    return [(case, entries[case.place]) for case in cases()]


def wrong(case: Case, entry: Entry) -> str:
    """What is wrong with the judgement; empty if it is right."""
    if entry.kind != case.kind:
        return f"kind {entry.kind}"
    # Of what is used for nothing, the list need not say what it fits.
    if entry.base != case.base and not (case.kind == "other" and not case.base):
        return f"base {entry.base or 'none'}"
    if case.kind == "model":
        return "; ".join(_wrong_model(case, entry))
    words = {
        "wan": "wan", "refuse": "packed", "clip-l 248": "longclip-l", "t5 xl": "t5-xl", "": "", "?": "", "t2i": "t2i",
        "named by artist": "", "clip-vit-h": "", "named": "",
    }  # fmt: skip
    note = case.note.lower()
    word = words.get(note, note)
    return "" if word in entry.variant.lower() else f"variant {entry.variant or 'none'}"


_REFUSED = {"refuse", "nf4"}
_NAMES = {"ip2p": "instructpix2pix", "unclip": "unclip", "aio": "", "parts": ""}


def _wrong_model(case: Case, entry: Entry) -> Iterator[str]:
    """A model is used only if its base is known and its note doesn't say otherwise; then it is what its note says.

    FLUX.2 of other sizes than the smallest have no config here, and are refused by their name.
    """
    words = set(case.note.lower().replace("?", "").split())
    refused = not case.base or bool(words & _REFUSED) or (case.base == "flux2" and "4b" not in words)
    if refused != bool(entry.problem):
        yield f"refused: {entry.problem}" if entry.problem else "usable"
    identity, said = entry.identity, f"{entry.variant} {entry.problem}".lower().replace(" ", "")
    told = {
        "inpainting": identity.inpainting, "v-pred": identity.prediction_type == "v_prediction",
        "ztsnr": identity.zero_snr, "epsilon": identity.prediction_type == "epsilon", "4": identity.steps == 4,
    }  # fmt: skip
    for word in words - {
        "usable",
        "needs",
        "parts",
        "refuse",
        "or",
        "run",
        "steps",
        "turbo",
        "base",
        "all-in-one",
        "b",
    }:
        right = told[word] if word in told else _NAMES.get(word, word) in said
        if not right and not (word == "hunyuan" and "hunyuan" in said):
            yield f"not {word}: {entry.variant or 'no variant'}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = judged(Path(folder))
    wrongs = 0
    for case, entry in found:
        problem = wrong(case, entry)
        wrongs += bool(problem)
        if problem or "-v" in sys.argv:
            companions = {part: path.stem for part, path in entry.companions}
            verdict = f"WRONG {problem}" if problem else "right"
            said = entry.problem or str(companions)
            print(
                *(verdict, f"{case.file} ({case.kind} {case.base} {case.note})"),
                *(f"{entry.kind} {entry.base} {entry.variant}", said),
                sep="\t",
            )
    print(f"{len(found) - wrongs} of {len(found)} right")


if __name__ == "__main__":
    main()
