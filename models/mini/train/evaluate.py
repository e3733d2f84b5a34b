"""Scores a model through a running server: `python evaluate.py http://127.0.0.1:8000 --model mini`.

It plays held-out dialogues: the model's own calls decide what comes next, and a turn ends at the first wrong
step. It reads no weights and imports no torch. The report is JSON; DIALOGUES are the same in every run.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from dialogue import make_dialogue
from render import Output, messages, parse_output, prompt
from tools import STRATA

DIALOGUES = 1000
TOKENS_MAX = 400
COUNTS = ["turns", "calls_right", "answer_right", "outputs", "well_formed", "errors"]


class Server:
    """Asks one of two doors for the next output."""

    def __init__(self, url, model, door, key, timeout):
        self.url, self.model, self.door, self.key, self.timeout = url.rstrip("/"), model, door, key, timeout

    def post(self, path, body):
        headers = {"content-type": "application/json"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=self.timeout) as reply:
            return json.load(reply)

    def next_output(self, said, tools):
        common = {"model": self.model, "max_tokens": TOKENS_MAX, "temperature": 0}
        if self.door == "completions":
            reply = self.post("/v1/completions", {**common, "prompt": prompt(said, tools)})
            return parse_output(reply["choices"][0]["text"])
        body = {**common, "messages": [wire(message) for message in said]}
        if tools:
            body["tools"] = tools
        return from_message(self.post("/v1/chat/completions", body)["choices"][0]["message"])


def wire(message):
    """A message as OpenAI's API takes it: ids of calls, arguments as text."""
    if message["role"] == "assistant" and message.get("tool_calls"):
        calls = []
        for number, call in enumerate(message["tool_calls"]):
            arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
            function = {**call["function"], "arguments": arguments}
            calls.append({"id": f"call_{number}", "type": "function", "function": function})
        return {**message, "tool_calls": calls}
    return message


def with_ids(said):
    """Numbers the results of each step like its calls."""
    number, found = 0, []
    for message in said:
        number = number if message["role"] == "tool" else 0
        found.append({**message, "tool_call_id": f"call_{number}"} if message["role"] == "tool" else message)
        number += message["role"] == "tool"
    return found


def from_message(message):
    """An output that the server has already taken apart."""
    content = message.get("content") or ""
    calls, well_formed = [], "<tool_call>" not in content
    for call in message.get("tool_calls") or []:
        try:
            arguments = json.loads(call["function"]["arguments"])
            well_formed &= isinstance(arguments, dict)
        except ValueError:
            arguments, well_formed = {}, False
        calls.append((call["function"]["name"], arguments))
    thought = message.get("reasoning_content") or message.get("reasoning") or ""
    return Output(thought.strip(), content.strip(), calls, well_formed)


def canonical(call):
    """A call as text, so that 5 and 5.0, or 1 and true, are not the same."""
    return json.dumps(call, sort_keys=True, ensure_ascii=False)


def results_for(calls, step):
    """The results in the order of the model's calls, or nothing if the calls are not exactly the right ones."""
    left = [(canonical(call), result) for call, result in zip(step.calls, step.results)]
    found = []
    for call in map(canonical, calls):
        position = next((i for i, (wanted, _) in enumerate(left) if wanted == call), None)
        if position is None:
            return None
        found.append(left.pop(position)[1])
    return None if left else found


def as_message(output):
    calls = [
        {"type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in output.calls
    ]
    message = {"role": "assistant", "content": output.content, "reasoning_content": output.thought}
    return {**message, "tool_calls": calls} if calls else message


def play_turn(server, dialogue, number, counts):
    """Plays one turn; what came before it is as it should have been."""
    turn = dialogue.turns[number]
    said = messages(dialogue, number) + [{"role": "user", "content": turn.user}]
    counts["turns"] += 1
    for step in [*turn.steps, None]:
        output = server.next_output(with_ids(said), dialogue.tools)
        counts["outputs"] += 1
        counts["well_formed"] += output.well_formed
        if step is None:
            right = not output.calls and output.well_formed
            counts["calls_right"] += right
            held = bool(output.content) and all(one in output.content for one in turn.must)
            counts["answer_right"] += right and held
            return
        results = results_for(output.calls, step)
        if results is None or not output.well_formed:
            return
        said.append(as_message(output))
        said += [{"role": "tool", "content": result} for result in results]


def play(server, stratum, seed):
    """Counts for one dialogue, by scenario."""
    dialogue = make_dialogue(seed, STRATA[stratum], stratum)
    found = {}
    for number, turn in enumerate(dialogue.turns):
        counts = found.setdefault(turn.scenario, Counter())
        try:
            play_turn(server, dialogue, number, counts)
        except (urllib.error.URLError, TimeoutError, KeyError, ValueError) as error:
            counts["errors"] += 1
            print(f"{stratum} {seed}: {error}", file=sys.stderr)
    return stratum, found


def shares(counts):
    """The counts with what they mean."""
    turns, outputs = max(counts["turns"], 1), max(counts["outputs"], 1)
    return {
        **{name: counts[name] for name in COUNTS},
        "share_calls_right": round(counts["calls_right"] / turns, 4),
        "share_answer_right": round(counts["answer_right"] / turns, 4),
        "share_well_formed": round(counts["well_formed"] / outputs, 4),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--model", required=True)
    parser.add_argument("--door", choices=["completions", "chat"], default="completions")
    parser.add_argument("--dialogues", type=int, default=DIALOGUES, help="in all, shared among the strata")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--key", default="", help="the server's API key")
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("--report", default="-", help="file for the report")
    options = parser.parse_args()
    server = Server(options.url, options.model, options.door, options.key, options.timeout)
    jobs = [(list(STRATA)[i % len(STRATA)], i // len(STRATA)) for i in range(options.dialogues)]
    strata = {name: Counter() for name in STRATA}
    scenarios, whole = {}, Counter()
    with ThreadPoolExecutor(options.at_once) as pool:
        for stratum, found in pool.map(lambda job: play(server, *job), jobs):
            for scenario, counts in found.items():
                for into in (strata[stratum], scenarios.setdefault(scenario, Counter()), whole):
                    into.update(counts)
    report = {
        "dialogues": len(jobs), "door": options.door, "all": shares(whole),
        "strata": {name: shares(counts) for name, counts in strata.items()},
        "scenarios": {name: shares(counts) for name, counts in sorted(scenarios.items())},
    }
    text = json.dumps(report, indent=1)
    if options.report == "-":
        print(text)
    else:
        with open(options.report, "w", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
