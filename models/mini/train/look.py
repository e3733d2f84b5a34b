"""Prints dialogues as text, to be read by people: `python look.py [COUNT] [STRATUM] [FIRST_SEED]`."""

import sys

from dialogue import make_dialogue
from render import messages, pieces
from tools import STRATA, TRAIN


def main(count="3", stratum="train", first="0"):
    for seed in range(int(first), int(first) + int(count)):
        dialogue = make_dialogue(seed, STRATA.get(stratum, TRAIN), stratum)
        found = pieces(messages(dialogue), dialogue.tools, dialogue.thinking)
        print(f"===== {stratum} {seed}: {', '.join(turn.scenario for turn in dialogue.turns)}")
        print("".join(text for text, _ in found))


if __name__ == "__main__":
    main(*sys.argv[1:])
