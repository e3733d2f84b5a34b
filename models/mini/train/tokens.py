"""The tokenizer: byte-level BPE of `VOCAB` ids, made from generated dialogues of fixed seeds.

A value must have the same ids wherever it stands, or copying it means learning each spelling twice: digits and words
stand alone, and only words that end no value take the space after them. The frame of schemas and calls, which
says nothing, has ids of its own. Texts of this model use no other tokenizer.
"""

import json
import re

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from dialogue import make_dialogue
from render import TOOLS_FOOT, TOOLS_HEAD, messages, pieces

VOCAB = 2048
DIALOGUES = 20_000
# The first three mark turns and never show in a text; the others are text, as in Qwen3.
HIDDEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SHOWN = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
# Ends no value that `values.py` draws, so the space behind it may belong to it.
JOINING = "the|of|to|in|a|an|is|are|for|with|and|on|at|from|it|that|by|or|what|how|which|have|can|was|as|no|not"
# Such words, other words, digits one by one, a sign with its space, runs of signs, spaces.
SPLIT = rf"(?:{JOINING}) |\p{{L}}+|\p{{N}}|[.,:;?!] |[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s"
TYPES = ["string", "integer", "number", "boolean", "array"]
OPENING = '{"type": "function", "function": {"name": "'
# What `render.py` and the template write around names, descriptions and values. The longest that fits is taken.
FRAME = [
    TOOLS_HEAD + "\n", "\n" + TOOLS_FOOT, OPENING, '"]}}}\n' + OPENING, '", "description": "',
    '", "parameters": {"type": "object", "properties": {"', '}, "', '"}, "', '"}}, "required": ["', '}}, "required": ["',
    '"]}}}', '", "', '", "enum": ["', '"], "default": "', '"]}, "', ', "default": false}, "',
    '", "items": {"type": "string"}}, "', '": "', '": ', '": ["', '"], "', '\n{"name": "', '", "arguments": {"',
    '"}}\n', '}}\n', ', "', '"}', "I call ", "I have the result.",
    *(f'": {{"type": "{one}"' for one in TYPES), *(f'": {{"type": "{one}", "description": "' for one in TYPES),
    '": {"type": "string", "enum": ["',
]


def texts(count):
    for seed in range(count):
        # Seeds below zero, so that no such dialogue is trained on as it stands.
        dialogue = make_dialogue(-1 - seed)
        for text, learn in pieces(messages(dialogue), dialogue.tools, dialogue.thinking):
            # Schemas outweigh all else in bytes; half of them is enough.
            if learn or seed % 2 == 0:
                yield text


def make_tokenizer(count=DIALOGUES):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    marks = HIDDEN + SHOWN + FRAME
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - len(marks),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    plain = (text for whole in texts(count) for text in without_marks(whole, marks))
    tokenizer.train_from_iterator(plain, trainer)
    require_size(tokenizer, VOCAB - len(marks))
    tokenizer.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in HIDDEN])
    tokenizer.add_tokens([AddedToken(one, special=False, normalized=False) for one in SHOWN + FRAME])
    return tokenizer


def require_size(tokenizer, size):
    """Refuses a text too small for the vocabulary: the model's shape depends on it."""
    found = tokenizer.get_vocab_size()
    if found != size:
        raise ValueError(f"the text gives {found} ids, not {size}; use more dialogues")


def without_marks(text, marks):
    return re.split("|".join(re.escape(one) for one in sorted(marks, key=len, reverse=True)), text)


def save_tokenizer(tokenizer, directory, context):
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
