"""A byte-level BPE tokenizer of 8,192 ids, trained on Python's own library, and a configuration beside it.

Both sides of `dynamo.sh` tokenise with it; nothing is downloaded. Usage: tokenizer.py FOLDER
"""

import json
import pathlib
import sys
import sysconfig

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

IDS = 8192
SPECIAL = ["<s>", "</s>"]
TEMPLATE = "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>{% endfor %}<s>assistant\n"

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
files = sorted(map(str, pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py")))
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
tokenizer.train(files, trainers.BpeTrainer(vocab_size=IDS, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False))
tokenizer.save(str(folder / "tokenizer.json"))
config = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": IDS, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 131072, "bos_token_id": 0, "eos_token_id": 1, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
}
(folder / "config.json").write_text(json.dumps(config, indent=1))
generation = {"bos_token_id": 0, "eos_token_id": 1}
(folder / "generation_config.json").write_text(json.dumps(generation))
text = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE}
(folder / "tokenizer_config.json").write_text(json.dumps(text))
