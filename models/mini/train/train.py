"""Makes the demonstration model: `python train.py` writes tokenizer, configuration and weights to `--out`.

All text is generated on the way from the seed. A run stops after `--tokens` or `--minutes`, whichever comes
first, and goes on from its last checkpoint with `--resume`. It never reads a data set or a pretrained model.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import Qwen3Config, Qwen3ForCausalLM

from muon import Muon
from stream import IGNORE, Stream
from tokens import DIALOGUES, VOCAB, make_tokenizer, save_tokenizer

HERE = Path(__file__).resolve().parent
CONTEXT = 2048
# Layers, width, feed-forward, query heads, key heads, their width. `large` is for a GPU; the tree allows 16 MB.
SHAPES = {"small": (4, 192, 512, 4, 2, 32), "large": (8, 256, 768, 4, 2, 64)}
# Until which share of a run, whether the dialogues are easy (one turn, one or two tools: copying is learnt sooner
# where there is little to choose from), and ids in a row. Short rows waste less on what a sample does not see.
STAGES = [(0.55, True, 448), (0.97, False, 704), (1.0, False, CONTEXT)]
WEIGHT_DECAY, BETAS, CLIP = 0.1, (0.9, 0.95), 1.0
# The rate ends at this share of its peak.
FLOOR = 0.05
REPORT_SECONDS, CHECKPOINT_SECONDS = 10, 120


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE.parent, help="where the model goes")
    parser.add_argument("--run", type=Path, default=HERE.parents[2] / "target/mini", help="checkpoints and log")
    parser.add_argument("--tokens", type=float, default=1e9, help="stop after so many tokens of text")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so many minutes (0: no limit)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--batch", type=int, default=65536, help="tokens in a step, about")
    parser.add_argument("--part", type=int, default=0, help="tokens at once, about (0: all)")
    parser.add_argument("--shape", choices=list(SHAPES), default="large")
    parser.add_argument("--rate", type=float, default=4e-3, help="peak learning rate")
    parser.add_argument("--warm", type=float, default=0.02, help="share of the run that warms up")
    parser.add_argument("--workers", type=int, default=4, help="processes that generate text")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of torch (0: its own choice)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --run")
    parser.add_argument("--vocabulary", type=int, default=DIALOGUES, help="dialogues that make the tokenizer")
    return parser.parse_args()


def pick_device(name):
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bf16(device):
    """Whether bf16 is worth it: GPUs of 2020 on, CPUs that multiply it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    flags = Path("/proc/cpuinfo")
    words = set(flags.read_text().split()) if flags.exists() else set()
    return bool(words & {"amx_bf16", "avx512_bf16"})


def load_tokenizer(options):
    """That of the run, made once; a resumed run must not make another."""
    path = options.run / "tokenizer.json"
    if options.resume and path.exists():
        return Tokenizer.from_file(str(path))
    print(f"making the tokenizer from {options.vocabulary} dialogues", flush=True)
    tokenizer = make_tokenizer(options.vocabulary)
    tokenizer.save(str(path))
    return tokenizer


def make_model(tokenizer, shape):
    end, pad = (tokenizer.token_to_id(one) for one in ("<|im_end|>", "<|endoftext|>"))
    layers, width, forward, heads, key_heads, head = SHAPES[shape]
    config = Qwen3Config(
        vocab_size=VOCAB, hidden_size=width, intermediate_size=forward, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=key_heads, head_dim=head,
        max_position_embeddings=CONTEXT, tie_word_embeddings=True, rms_norm_eps=1e-6, rope_theta=10_000.0,
        initializer_range=0.02, bos_token_id=None, eos_token_id=end, pad_token_id=pad,
    )
    config._attn_implementation = "sdpa"
    return Qwen3ForCausalLM(config)


def optimizers_of(model, rate):
    """Muon for the layers' matrices, AdamW for embeddings and norms."""
    matrices = [one for name, one in model.named_parameters() if one.dim() == 2 and ".layers." in name]
    theirs = {id(one) for one in matrices}
    others = [one for one in model.parameters() if id(one) not in theirs]
    return [Muon(matrices, rate, weight_decay=WEIGHT_DECAY), torch.optim.AdamW(others, rate, BETAS, weight_decay=0.0)]


def rate_at(share, options):
    """Warm-up, then a cosine down to the floor; `share` is how much of the run is over."""
    if share < options.warm:
        return options.rate * max(share / options.warm, 0.01)
    over = min(1.0, (share - options.warm) / (1 - options.warm))
    return options.rate * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * over)))


def batch_of(stream, count, device):
    ids, labels, owners = (torch.tensor(one) for one in zip(*(stream.take() for _ in range(count))))
    return ids.to(device), labels.to(device), owners.to(device)


def positions_of(owners):
    """Positions that begin anew with each sample."""
    index = torch.arange(owners.shape[1], device=owners.device).expand_as(owners)
    begins = torch.ones_like(owners, dtype=torch.bool)
    begins[:, 1:] = owners[:, 1:] != owners[:, :-1]
    return index - torch.where(begins, index, 0).cummax(dim=1).values


def mask_of(owners):
    """Who sees whom: earlier positions of the same sample."""
    length = owners.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=owners.device).tril()
    return ((owners[:, :, None] == owners[:, None, :]) & causal)[:, None]


def loss_of(model, ids, labels, owners):
    """Sum of losses over the tokens to be learnt, and how many these are."""
    hidden = model.model(
        input_ids=ids,
        attention_mask=mask_of(owners),
        position_ids=positions_of(owners),
        use_cache=False,
    ).last_hidden_state
    targets = labels[:, 1:].reshape(-1)
    learnt = targets != IGNORE
    # Most tokens are not to be learnt: only the others' logits are made.
    logits = model.lm_head(hidden[:, :-1].reshape(-1, hidden.shape[-1])[learnt])
    return functional.cross_entropy(logits.float(), targets[learnt], reduction="sum"), int(learnt.sum())


def step(model, optimizers, batch, part, mixed):
    """One step over a batch in parts; gives the mean loss and the tokens learnt."""
    ids, labels, owners = batch
    wanted = int((labels[:, 1:] != IGNORE).sum())
    total = 0.0
    for begin in range(0, len(ids), part):
        rows = slice(begin, begin + part)
        with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=mixed):
            loss, _ = loss_of(model, ids[rows], labels[rows], owners[rows])
        (loss / max(wanted, 1)).backward()
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return total / max(wanted, 1), wanted


def write_checkpoint(path, model, optimizers, stream, state):
    """Written beside, then moved: a cut never leaves half a checkpoint."""
    saved = {
        "model": model.state_dict(), "optimizers": [one.state_dict() for one in optimizers],
        "firsts": stream.firsts, **state,
    }
    torch.save(saved, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def save_model(model, tokenizer, shape, out):
    """Hugging Face's layout, weights in bf16."""
    out.mkdir(parents=True, exist_ok=True)
    whole = make_model(tokenizer, shape)
    whole.load_state_dict(model.state_dict())
    whole.to(torch.bfloat16).save_pretrained(out)
    save_tokenizer(tokenizer, out, CONTEXT)
    end = tokenizer.token_to_id("<|im_end|>")
    pad = tokenizer.token_to_id("<|endoftext|>")
    settings = {"eos_token_id": [end, pad], "pad_token_id": pad, "do_sample": False}
    (out / "generation_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    template = HERE.parent / "chat_template.jinja"
    if (out / template.name).resolve() != template.resolve():
        (out / template.name).write_text(template.read_text(encoding="utf-8"), encoding="utf-8")


def main():
    options = arguments()
    options.run.mkdir(parents=True, exist_ok=True)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = pick_device(options.device)
    mixed = has_bf16(device)
    tokenizer = load_tokenizer(options)
    model = make_model(tokenizer, options.shape).to(device)
    optimizers = optimizers_of(model, options.rate)
    state, firsts = {"tokens": 0, "learnt": 0, "seconds": 0.0, "steps": 0}, None
    checkpoint = options.run / "checkpoint.pt"
    if options.resume and checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        for optimizer, kept in zip(optimizers, saved["optimizers"]):
            optimizer.load_state_dict(kept)
        state, firsts = {key: saved[key] for key in state}, saved["firsts"]
    print(
        f"{model.num_parameters() / 1e6:.2f} M parameters on {device}, {'bf16' if mixed else 'f32'}, "
        f"{options.batch} tokens a step, from {state['tokens'] / 1e6:.1f} M tokens",
        flush=True,
    )
    if options.compile:
        model.model.compile(dynamic=False)
    run = Run(options, model, optimizers, tokenizer, state, firsts, mixed, checkpoint, device)
    for until, easy, context in STAGES:
        if run.share() < until:
            run.stage(until, easy, context)
    save_model(model, tokenizer, options.shape, options.out)
    print(f"written to {options.out}", flush=True)


@dataclass
class Run:
    """A run with all that it needs to go on."""

    options: argparse.Namespace
    model: Qwen3ForCausalLM
    optimizers: list
    tokenizer: Tokenizer
    state: dict
    firsts: list
    mixed: bool
    checkpoint: Path
    device: torch.device

    def share(self):
        """How much of the run is over."""
        minutes = self.state["seconds"] / 60 / self.options.minutes if self.options.minutes else 0
        return max(self.state["tokens"] / self.options.tokens, minutes)

    def stage(self, until, easy, context):
        """Trains until this share of the run is over."""
        options = self.options
        stream = Stream(self.tokenizer, context, options.seed, options.workers, self.firsts, easy)
        try:
            self.steps(stream, until, context)
        finally:
            self.firsts = stream.firsts
            stream.close()

    def steps(self, stream, until, context):
        rows = max(1, self.options.batch // context)
        part = max(1, self.options.part // context) if self.options.part else rows
        losses, since = [], 0
        reported = kept = begun = time.monotonic()
        while (share := self.share()) < until:
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate_at(share, self.options)
            loss, learnt = step(self.model, self.optimizers, batch_of(stream, rows, self.device), part, self.mixed)
            losses.append(loss)
            since += rows * context
            now = time.monotonic()
            self.count(rows * context, learnt, now - begun)
            begun = now
            if now - reported > REPORT_SECONDS:
                self.report(losses, since / (now - reported))
                losses, reported, since = [], now, 0
            if now - kept > CHECKPOINT_SECONDS:
                write_checkpoint(self.checkpoint, self.model, self.optimizers, stream, self.state)
                kept = now
        write_checkpoint(self.checkpoint, self.model, self.optimizers, stream, self.state)

    def count(self, tokens, learnt, seconds):
        self.state["steps"] += 1
        self.state["tokens"] += tokens
        self.state["learnt"] += learnt
        self.state["seconds"] += seconds

    def report(self, losses, speed):
        state, share = self.state, self.share()
        row = {**state, "seconds": round(state["seconds"]), "loss": round(sum(losses) / len(losses), 4),
               "tokens_per_second": round(speed)}
        left = state["seconds"] / max(share, 1e-9) * (1 - share)
        print(
            f"{share:6.1%}  step {row['steps']}  {row['tokens'] / 1e6:.2f} M tokens  loss {row['loss']:.4f}  "
            f"{row['tokens_per_second']} tokens/s  {left / 60:.0f} min left",
            flush=True,
        )
        with (self.options.run / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
