"""The nursery with a cheap potential, whose relaxations are staged at every step."""

from __future__ import annotations

import time

from gandb.cli import relax  # noqa: F401 - loads what commands load
from gandb.energies import relaxing
from gandb.energies.fire import Settings
from gandb.tasks import relaxation
from tests.energies import springs
from tests.energies.boxes import shaken
from tests.tasks import nursery


def main() -> None:
    """Load what is compiled, and serve."""
    springs.register()
    short = Settings(max_steps=1)
    relaxing.relax(springs.Springs(), shaken(2), short)
    relaxation.STAGED_EVERY = 0.0
    relaxation.ATOMS["cpu"] = 12
    plain = relaxing.Relaxation.step

    def slowly(self: relaxing.Relaxation, potential: springs.Springs) -> None:
        plain(self, potential)
        time.sleep(0.002)  # long enough to be killed in

    relaxing.Relaxation.step = slowly  # type: ignore[method-assign]
    nursery.main()


if __name__ == "__main__":
    main()
