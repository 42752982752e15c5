"""What happens in a simulated world, written down: settings, and who does what when.

A story is plain JSON, so that one which a seed brought up can be cut down to the few deeds that
matter, read by a person, and kept as a test: seeds change their meaning with the plot, stories do
not. `python -m clarion.testing.story FILE` plays one and says what it broke.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clarion.settings import load
from clarion.testing.deed import perform
from clarion.testing.invariant import examine
from clarion.testing.settings_file import settings_toml
from clarion.testing.simulated_receipt import ReceiptHabit
from clarion.testing.simulation import Simulation

DRAIN_S = 400.0
"""Virtual seconds in which everything has to end once the world is well."""
WELL = "well"


@dataclass(frozen=True, slots=True)
class Deed:
    """What somebody does at `at` virtual seconds; `kind` is one of `deed.DEEDS`."""

    at: float
    kind: str
    details: Mapping[str, Any]

    def __str__(self) -> str:
        told = ", ".join(f"{key} {_short(value)}" for key, value in self.details.items())
        return f"{self.at:9.3f} s  {self.kind:8} {told}".rstrip()


@dataclass(frozen=True, slots=True)
class Story:
    """A whole world before it is lived."""

    seed: int
    """Of the chances that are left: latencies, delays, the engine's own."""
    horizon_s: float
    """When the world turns well, in virtual seconds; everything ends within `DRAIN_S` from then."""
    receipts: float
    """Share of the messages taken of which providers tell later."""
    settings: Mapping[str, Any]
    """Tables of the settings file."""
    deeds: tuple[Deed, ...]

    @property
    def ends_at_s(self) -> float:
        """When the simulation is over at the latest, in virtual seconds."""
        return self.horizon_s + DRAIN_S

    def stage(self, directory: Path) -> Simulation:
        """Return the world, planned and not yet lived, with its files in `directory`."""
        path = settings_toml(directory / "settings.toml", **self.settings)
        world = Simulation(self.seed, load(path, env={}))
        world.let_tell(ReceiptHabit(self.receipts))
        for deed in self.deeds:
            act = partial(perform, kind=deed.kind, details=deed.details)
            name = f"{deed.kind} {_tag(deed)}".rstrip()
            # Whoever has a key asks again after a death, not knowing what became of it.
            is_stubborn = "idempotency_key" in deed.details.get("item", {})
            world.plan(deed.at, name, act, is_stubborn=is_stubborn)
        world.plan(self.horizon_s, WELL, partial(perform, kind=WELL, details={}), is_stubborn=True)
        return world

    def play(self) -> Simulation:
        """Live through the story in a directory of its own and examine the world."""
        with TemporaryDirectory(prefix="clarion-story-") as directory:
            world = self.stage(Path(directory))
            world.run(self.ends_at_s)
            examine(world)
        return world

    def with_deeds(self, deeds: tuple[Deed, ...]) -> Story:
        """Return the same world with other deeds."""
        return replace(self, deeds=deeds)

    def to_json(self) -> str:
        """Write the story down, a deed a line."""
        fields = asdict(self)
        deeds = ",\n".join(f"  {json.dumps(deed)}" for deed in fields.pop("deeds"))
        head = json.dumps(fields, indent=1).removesuffix("\n}")
        return f'{head},\n "deeds": [\n{deeds}\n ]\n}}\n'

    @staticmethod
    def from_json(text: str) -> Story:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        deeds = tuple(Deed(**deed) for deed in fields.pop("deeds"))
        return Story(**fields, deeds=deeds)


def _tag(deed: Deed) -> str:
    return " ".join(str(value) for value in deed.details.values() if isinstance(value, (str, int)))


def _short(value: Any) -> str:
    match value:
        case list() if value and isinstance(value[0], dict):
            return f"{len(value)} × {_short(value[0])}"
        case dict():
            return "{" + ", ".join(f"{key}: {each}" for key, each in value.items()) + "}"
        case list():
            return "/".join(str(each) for each in dict.fromkeys(value))
        case _:
            return str(value)


def main(path: str) -> int:
    """Play the story of a file; return how many promises it broke, 255 at most."""
    world = Story.from_json(Path(path).read_text(encoding="utf-8")).play()
    told = [*world.trace, "", f"{len(world.violations)} promises broken", *world.violations]
    sys.stdout.write("\n".join([*told, ""]))
    return min(255, len(world.violations))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
