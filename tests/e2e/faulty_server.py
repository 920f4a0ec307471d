"""A real server whose model fails as a file says: `faulty_server.py FILE WORDS...`.

The words are those of `steelyard`. The file holds `well`, `sleep SECONDS`, `raise` or `nan`, and is
read at each call of the model. Only what the graph answers is taken over: guards, breaker, fallback,
log and all else are the real ones, and so are golden rows, which a failing model fails too.
"""

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steelyard.bundle.outputs import Answer
from steelyard.bundle.predictor import Predictor
from steelyard.cli import main


def make_faulty(file: Path) -> None:
    """Make every model of this process fail as the file says."""
    answer = Predictor.run

    def run(self: Predictor, feeds: Mapping[str, Any], options: Any = None) -> list[Answer]:
        fault, _, seconds = file.read_text().partition(" ")
        if fault == "sleep":
            time.sleep(float(seconds))
        elif fault == "raise":
            raise RuntimeError("the model is broken")
        answers = answer(self, feeds, options)
        return list(map(_spoiled, answers)) if fault == "nan" else answers

    Predictor.run = run  # type: ignore[method-assign]


def _spoiled(answer: Answer) -> Answer:
    prediction, scores = answer
    return (math.nan, None) if scores is None else (prediction, [math.nan] * len(scores))


if __name__ == "__main__":
    make_faulty(Path(sys.argv.pop(1)))
    main()
