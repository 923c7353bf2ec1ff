"""Many people at once on the bundled model: `python -m benchmarks.crowd`.

Each opens the page, watches, and asks for pictures at the same moment. The age of a preview is the time from the moment
at which the engine tells of a step to that at which a reader in another process has it, by the machine's one clock.
"""

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.visitor import Program, Window

PROMPT = "a red apple, 3d render, on a white background"


def serve(log: str, arguments: list[str]) -> int:
    """Run the studio, and write down when each step was told."""
    import launch
    from studio.engine import engine, events

    file = open(log, "a", buffering=1)  # noqa: SIM115 (as long as the process lives)

    def note(event: events.Event) -> None:
        if isinstance(event, events.Step):
            file.write(f"{event.job} {event.done} {time.monotonic()}\n")

    class Watched(engine.Engine):
        def __init__(self, *given: object) -> None:
            super().__init__(*given)  # type: ignore[arg-type]
            self.subscribe(note)

    engine.Engine = Watched  # type: ignore[assignment,misc]
    return launch.main(arguments)


class Person:
    """What one of them saw: when each step of each picture came, and how long pressing took."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.seen: dict[tuple[str, int], float] = {}
        self.pressed = self.answered = self.ended = 0.0

    async def run(self, start: asyncio.Barrier, pictures: int, steps: int, side: int) -> None:
        async with Window(self.address) as window:
            watching = asyncio.create_task(self.watch(window, pictures))
            await start.wait()
            self.pressed = time.monotonic()
            fields = {"Prompt": PROMPT, "Steps": steps, "Width": side, "Height": side, "Pictures": pictures}
            told = await window.generate(**fields)
            self.answered = time.monotonic()
            if told:
                raise RuntimeError(told)
            await watching

    async def watch(self, window: Window, pictures: int) -> None:
        made = set()
        async for kind, values in window.news():
            now = time.monotonic()
            if kind == "job" and values["state"] == "step" and values.get("preview"):
                self.seen[values["id"], values["done"]] = now
            if kind == "job" and values["state"] == "finished":
                made.add(values["id"])
            if len(made) == pictures:
                self.ended = now
                return


async def crowd(address: str, people: int, pictures: int, steps: int, side: int) -> list[Person]:
    async with Window(address) as first:  # the model is loaded, and what is made once is made
        waiting = asyncio.create_task(Person(address).run(asyncio.Barrier(1), 1, 2, side))
        await waiting
        await first.client.get("/pictures")
    start = asyncio.Barrier(people)
    found = [Person(address) for _ in range(people)]
    await asyncio.gather(*(each.run(start, pictures, steps, side) for each in found))
    return found


def report(found: list[Person], log: Path) -> None:
    told = {(job, int(done)): float(when) for job, done, when in map(str.split, log.read_text().splitlines())}
    ages = sorted(1000 * (when - told[step]) for each in found for step, when in each.seen.items())
    firsts = [min(each.seen.values()) - each.pressed for each in found]
    gaps = [
        max(b - a for a, b in itertools.pairwise(times))
        for each in found
        if len(times := sorted(each.seen.values())) > 1
    ]
    whole = [each.ended - each.pressed for each in found]
    print(f"{len(found)} people; all finished in {max(whole):.1f} s, each in {min(whole):.1f} to {max(whole):.1f} s")
    print(f"press {max(each.answered - each.pressed for each in found):.2f} s at most")
    print(f"first preview: median {statistics.median(firsts):.2f} s, at most {max(firsts):.2f} s")
    print(f"longest time without a preview {max(gaps):.2f} s")
    percent = statistics.quantiles(ages, n=100)
    print(f"age of {len(ages)} previews: median {percent[49]:.0f}, 95 % {percent[94]:.0f}, at most {ages[-1]:.0f} ms")


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        sys.exit(serve(sys.argv[2], sys.argv[3:]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--side", type=int, default=128, help="pixels")
    parser.add_argument("--port", type=int, default=7990)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "steps.txt")
        log.touch()
        os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
        launcher = ["-m", "benchmarks.crowd", "--serve", str(log)]
        program = Program(Path(folder, "outputs"), options.port, launcher=launcher)
        try:
            report(
                asyncio.run(crowd(program.address, options.people, options.pictures, options.steps, options.side)), log
            )
        finally:
            program.end()


if __name__ == "__main__":
    main()
