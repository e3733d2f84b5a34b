"""A dialogue as text, in the form of Qwen3 with Hermes tools, and a model's output back as calls.

`chat_template.jinja` writes the same text from the same messages; a test compares them. It decides nothing
about what is said.
"""

import json
import re
from dataclasses import dataclass

TOOLS_HEAD = "# Tools\n\nFunctions that you may call, a JSON schema on each line:\n<tools>"
TOOLS_FOOT = (
    "</tools>\n\nTo call one, write its name and arguments as JSON:\n"
    '<tool_call>\n{"name": <name>, "arguments": <object>}\n</tool_call>'
)
END = "<|im_end|>"
NO_THOUGHT = "<think>\n\n</think>\n\n"
CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def dumps(value):
    return json.dumps(value, ensure_ascii=False)


def call_text(name, arguments):
    return f"<tool_call>\n{dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def messages(dialogue, turns=None):
    """The messages of the first `turns` turns, as a client sends them to /v1/chat/completions."""
    found = [{"role": "system", "content": dialogue.system}] if dialogue.system else []
    for turn in dialogue.turns[:turns]:
        found.append({"role": "user", "content": turn.user})
        for step in turn.steps:
            calls = [
                {"type": "function", "function": {"name": name, "arguments": arguments}}
                for name, arguments in step.calls
            ]
            thought = step.thought if dialogue.thinking else ""
            found.append(
                {"role": "assistant", "content": "", "reasoning_content": thought, "tool_calls": calls}
            )
            found += [{"role": "tool", "content": result} for result in step.results]
        thought = turn.thought if dialogue.thinking else ""
        found.append({"role": "assistant", "content": turn.answer, "reasoning_content": thought})
    return found


def system_text(messages, tools):
    own = messages[0]["content"] if messages and messages[0]["role"] == "system" else ""
    parts = [own] if own else []
    if tools:
        parts.append("\n".join([TOOLS_HEAD, *(dumps(tool) for tool in tools), TOOLS_FOOT]))
    body = "\n\n".join(parts)
    return f"<|im_start|>system\n{body}{END}\n" if body else ""


def assistant_text(message, with_thought):
    thought = f"<think>\n{message.get('reasoning_content', '')}\n</think>\n\n" if with_thought else ""
    calls = [
        call_text(call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls", [])
    ]
    said = [message["content"]] if message["content"] else []
    return thought + "\n".join(said + calls) + END


def pieces(messages, tools, thinking=True):
    """The text in pieces: (text, whether the model must learn to write it)."""
    last = max(i for i, message in enumerate(messages) if message["role"] == "user")
    found = [(system_text(messages, tools), False)]
    for i, message in enumerate(messages):
        role = message["role"]
        if role == "user":
            found.append((f"<|im_start|>user\n{message['content']}{END}\n", False))
        elif role == "tool":
            first = messages[i - 1]["role"] != "tool"
            final = i + 1 == len(messages) or messages[i + 1]["role"] != "tool"
            head = "<|im_start|>user\n" if first else "\n"
            body = f"<tool_response>\n{message['content']}\n</tool_response>"
            found.append((head + body + (f"{END}\n" if final else ""), False))
        elif role == "assistant":
            text, now = assistant_text(message, i > last), i > last
            head = "<|im_start|>assistant\n"
            if now and not thinking:
                head, text = head + NO_THOUGHT, text.removeprefix(NO_THOUGHT)
            found += [(head, False), (text, now), ("\n", False)]
    return found


def prompt(messages, tools, thinking=True):
    """The text that the model continues."""
    text = "".join(text for text, _ in pieces(messages, tools, thinking))
    return text + "<|im_start|>assistant\n" + ("" if thinking else NO_THOUGHT)


@dataclass
class Output:
    """What a model wrote in one step."""

    thought: str
    content: str
    calls: list
    well_formed: bool


def parse_output(text):
    """Reads a model's text; one malformed call makes the whole not well-formed."""
    text = text.split(END)[0]
    thought, closed, rest = text.partition("</think>")
    if not closed:
        thought, rest = "", text
    calls, well_formed = [], "<think>" not in rest
    for body in CALL.findall(rest):
        try:
            call = json.loads(body)
            calls.append((call["name"], call["arguments"]))
            well_formed &= isinstance(call["arguments"], dict) and isinstance(call["name"], str)
        except (ValueError, KeyError, TypeError):
            well_formed = False
    content = CALL.sub("", rest)
    well_formed &= "<tool_call>" not in content and "</tool_call>" not in content
    return Output(thought.replace("<think>", "").strip(), content.strip(), calls, well_formed)
