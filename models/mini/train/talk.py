"""Small talk about what the model is, from `words/talk.txt`: a block of answers, and below it the questions.

The first word of a block is what it is about. The last question of each block is held out. It knows no tools.
"""

from functools import cache
from pathlib import Path

TALK = Path(__file__).parent / "words" / "talk.txt"
# What a right answer to a block must contain; blocks not named here ask for nothing.
MUST = {"Thalamus": ["Thalamus"], "tools": ["tools"], "server": ["server"], "Goodbye": ["Goodbye"]}


@cache
def blocks():
    found = []
    for line in TALK.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            found[-1][2].append(line.strip())
        else:
            about, *answers = line.split(" | ")
            found.append((about, answers, []))
    return found


def small_talk(rng, held=False):
    """A question, an answer, and what a right answer contains."""
    about, answers, questions = rng.choice(blocks())
    question = rng.choice(questions[-1:] if held else questions[:-1])
    return question, rng.choice(answers), MUST.get(about, [])
