"""An endless stream of packed rows of ids, made in worker processes from seeds.

A worker's rows depend on the seed and its number alone; a resumed run goes on at the dialogue that did not fit
into the last row taken, so it may repeat that dialogue's first turns. Each of a dialogue's last turns gives a
text of its own, as a server would render it then. No files are written.
"""

import multiprocessing

from dialogue import make_dialogue
from render import messages, pieces

IGNORE = -100
# Texts of one dialogue at most: each repeats the schemas, which cost most of the time.
TURNS_MOST = 3
# A run begins with so many easy dialogues, some 20 M tokens: copying is learnt sooner where there is little to
# choose from.
EASY = 60_000
# Rows that wait for the trainer, for each worker.
AHEAD = 64


def samples(dialogue):
    """A text for each of a dialogue's last turns: after what the user says there, all is to be learnt."""
    last = len(dialogue.turns)
    for turns in range(max(1, last - TURNS_MOST + 1), last + 1):
        yield pieces(messages(dialogue, turns), dialogue.tools, dialogue.thinking)


def encode(tokenizer, found):
    """Ids of a text and their labels."""
    ids, labels = [], []
    texts, learns = zip(*found)
    for encoding, learn in zip(tokenizer.encode_batch(list(texts)), learns):
        ids += encoding.ids
        labels += encoding.ids if learn else [IGNORE] * len(encoding.ids)
    return ids, labels


def encoded_samples(tokenizer, seed, worker, workers, first):
    """Samples of every `workers`-th dialogue, from the `first` of this worker on."""
    count = first
    while True:
        number = worker + count * workers
        dialogue = make_dialogue(f"{seed}:{number}", easy=number < EASY)
        for found in samples(dialogue):
            yield count, encode(tokenizer, found)
        count += 1


def rows(tokenizer, context, seed, worker=0, workers=1, first=0):
    """Rows of `context` ids, labels and the sample of each position. A sample never crosses rows."""
    ids, labels, owners, owner = [], [], [], 0
    pad = tokenizer.token_to_id("<|endoftext|>")
    for count, (more_ids, more_labels) in encoded_samples(tokenizer, seed, worker, workers, first):
        if len(more_ids) > context:
            continue
        if len(ids) + len(more_ids) > context:
            room = context - len(ids)
            yield count, ids + [pad] * room, labels + [IGNORE] * room, owners + [owner] * room
            ids, labels, owners, owner = [], [], [], 0
        ids, labels = ids + more_ids, labels + more_labels
        owners += [owner] * len(more_ids)
        owner += 1


def work(queue, text, context, seed, worker, workers, first):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(text)
    for row in rows(tokenizer, context, seed, worker, workers, first):
        queue.put((worker, *row))


class Stream:
    """Rows from all workers in turn."""

    def __init__(self, tokenizer, context, seed, workers, firsts=None):
        self.firsts = list(firsts or [0] * workers)
        if len(self.firsts) != workers:
            raise ValueError(f"the checkpoint was made with {len(self.firsts)} workers; use as many")
        start = multiprocessing.get_context("spawn")
        self.queues = [start.Queue(AHEAD) for _ in range(workers)]
        text = tokenizer.to_str()
        self.processes = [
            start.Process(target=work, args=(queue, text, context, seed, i, workers, self.firsts[i]), daemon=True)
            for i, queue in enumerate(self.queues)
        ]
        for process in self.processes:
            process.start()
        self.turn = 0

    def take(self):
        worker, count, ids, labels, owners = self.queues[self.turn].get()
        self.firsts[worker] = count
        self.turn = (self.turn + 1) % len(self.queues)
        return ids, labels, owners

    def close(self):
        for process in self.processes:
            process.terminate()
            process.join()
