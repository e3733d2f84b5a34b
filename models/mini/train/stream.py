"""An endless stream of packed rows of ids, made in worker processes from seeds.

A worker's rows depend on the seed and its number alone; a resumed run goes on at the dialogue that did not fit
into the last row taken. No files are written.
"""

import multiprocessing

from dialogue import make_dialogue
from render import messages, pieces

IGNORE = -100
# How the text of an earlier answer begins.
ASSISTANT = "<|im_start|>assistant\n"
# Rows that wait for the trainer, for each worker.
AHEAD = 64


def sample(dialogue):
    """A dialogue's text, as a server renders it in the last turn."""
    return pieces(messages(dialogue), dialogue.tools, dialogue.thinking)


def encode(tokenizer, found):
    """Ids of a text and their labels."""
    ids, labels = [], []
    texts, learns = zip(*found)
    before = ""
    for text, encoding, learn in zip(texts, tokenizer.encode_batch(list(texts)), learns):
        ids += encoding.ids
        if learn:
            labels += encoding.ids
        elif before == ASSISTANT:
            # Of an earlier turn all but the first id is learnt: that one says not to think.
            labels += [IGNORE, *encoding.ids[1:]]
        else:
            labels += [IGNORE] * len(encoding.ids)
        before = text
    return ids, labels


def encoded_samples(tokenizer, seed, worker, workers, first, easy):
    """Samples of every `workers`-th dialogue, from the `first` of this worker on."""
    count = first
    while True:
        dialogue = make_dialogue(f"{seed}:{worker + count * workers}", easy=easy)
        yield count, encode(tokenizer, sample(dialogue))
        count += 1


def rows(tokenizer, context, seed, worker=0, workers=1, first=0, easy=False):
    """Rows of `context` ids, labels and the sample of each position. A sample never crosses rows."""
    ids, labels, owners, owner = [], [], [], 0
    pad = tokenizer.token_to_id("<|endoftext|>")
    for count, (more_ids, more_labels) in encoded_samples(tokenizer, seed, worker, workers, first, easy):
        if len(more_ids) > context:
            continue
        if len(ids) + len(more_ids) > context:
            room = context - len(ids)
            yield count, ids + [pad] * room, labels + [IGNORE] * room, owners + [owner] * room
            ids, labels, owners, owner = [], [], [], 0
        ids, labels = ids + more_ids, labels + more_labels
        owners += [owner] * len(more_ids)
        owner += 1


def work(queue, text, *rest):
    from tokenizers import Tokenizer

    for row in rows(Tokenizer.from_str(text), *rest):
        queue.put(row)


class Stream:
    """Rows from all workers in turn."""

    def __init__(self, tokenizer, context, seed, workers, firsts=None, easy=False):
        self.firsts = list(firsts or [0] * workers)
        if len(self.firsts) != workers:
            raise ValueError(f"the checkpoint was made with {len(self.firsts)} workers; use as many")
        start = multiprocessing.get_context("spawn")
        self.queues = [start.Queue(AHEAD) for _ in range(workers)]
        text = tokenizer.to_str()
        self.processes = [
            start.Process(target=work, args=(queue, text, context, seed, i, workers, self.firsts[i], easy), daemon=True)
            for i, queue in enumerate(self.queues)
        ]
        for process in self.processes:
            process.start()
        self.turn = 0

    def take(self):
        count, ids, labels, owners = self.queues[self.turn].get()
        self.firsts[self.turn] = count
        self.turn = (self.turn + 1) % len(self.queues)
        return ids, labels, owners

    def close(self):
        for process in self.processes:
            process.terminate()
            process.join()
