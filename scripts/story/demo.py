"""The demonstration: what the product promises, shown on real parts, one line of evidence a step.

Law: a step holds only if what it claims was seen at the far end too (the shop's own log, the file on disk);
the first step that does not hold ends the demonstration with exit code 1.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from story.cast import Cast
from story.part import StoryError, end_in_order
from story.scene import Scene
from story.steps import STEPS


def play(scene: Scene, steps: Sequence[tuple[str, Callable[[Scene], str]]]) -> int:
    """Runs the steps in order, a line each, until one does not hold; returns how many held."""
    for number, (title, step) in enumerate(steps, start=1):
        began = time.monotonic()
        try:
            evidence = step(scene)
        except StoryError as error:
            print(f"BROKEN {number:>2}. {title}: {error}", flush=True)
            return number - 1
        print(f"held {number:>2}. {title}: {evidence} [{time.monotonic() - began:.1f} s]", flush=True)
    return len(steps)


def main() -> None:
    """The command line; takes no arguments."""
    end_in_order()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coatcheck-demo-")))
        try:
            cast = stack.enter_context(Cast(folder))
            cast.make_state()
            scene = stack.enter_context(Scene(cast))
        except StoryError as error:
            sys.exit(f"error: {error}")
        print(f"issuer {cast.issuer.url}, shop {cast.shop.url}, gateway {scene.gateway.proxy_url()}", flush=True)
        held = play(scene, STEPS)
    print(f"demo: {held}/{len(STEPS)} steps held")
    sys.exit(held != len(STEPS))


if __name__ == "__main__":
    main()
