#!/usr/bin/env python3
"""How llama.cpp splits texts for each `tokenizer.ggml.pre`, as JSON for the packer's tests.

    llama_pre.py --texts token-texts.json > pre.json

Trains a byte-level vocabulary on the texts themselves without splitting them, so that merges cross
every border that a pattern may cut at: wherever two patterns cut differently, ids differ. Then asks
llama.cpp for the ids under each name. Everything is seeded; the output names llama.cpp's version.

The output: `tokens` after the 256 bytes, `merges`, `texts` (those given and more), `ids` (for each
text, the different lists of ids that came out), and `groups`: names that came out the same, whether
`bos` comes first where the file does not say, and which list of `ids` is theirs for each text. Runs
in the environment that `scripts/setup` builds for the cloud server.
"""

import argparse
import collections
import json
import random
import re
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import gguf
import xllamacpp
from llama_tokens import ask, leave, write_model

# In the order of llama.cpp's source. Names of models that do not write text are left out.
NAMES = """
    default minicpm5 llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 deepseek-llm
    deepseek-coder deepseek-v3 spark2_5 youtu falcon mpt starcoder gpt-2 phi-2 gigachat a.x-4.0
    mellum refact command-r qwen2 deepseek-r1-qwen kormo qwen35 stablelm2 olmo dbrx smaug-bpe
    poro-chat glm4 chatglm-bpe viking jais tekken smollm codeshell bloom gpt3-finnish exaone exaone4
    exaone-moe minerva-7b megrez gpt-4o llama4 kanana2 talkie trillion granite-docling bailingmoe
    bailingmoe2 llada-moe seed-coder hunyuan hunyuan-dense hy_v4 joyai-llm kimi-k2 ufakzeka grok-2
    laguna minimax-m2 solar-open mellum2
""".split()

MERGES = 2400
END, BOS, USER, WHOLE = "<|end|>", "<|bos|>", "<user>", " unreachable"
PIECES = """
    hello World DON'T don't 'south 'Dare it'sad WE'RED 's 'S 'll 'RE x'Ve 1 12 123 1234 56789 ½ ² Ⅷ
    ٣٤ 三 ( ) ... !? / // \\ ~ ~~ $ + <= ^ | ` `` _ - -- @user #tag é É ÉCOLE Straße ǅ ʰ ª ﬁ Ж жизнь
    Γειά مرحبا ، ۔ । नमस्ते हिन्दी บาท ไทย 한국어 ㅋㅋ ᄀ 日本語 中文 龥 龦 ꀀ 々 〇 ー ｶﾅ Ａｂ ～ ！ 。 、 「」
    … “x” ‘y’ ‟ — 😀 👍🏽 ☃ € © ∑ ª́ ́ ि ्
""".split()
SPACES = [" ", "  ", "   ", "\n", "\r\n", "\n\n", "\t"]
SPACES += ["\u3000", "\xa0", "\x85", "\u2028", "\u1680"]
STRANGE = "\0 \x1b \x7f \u200b \u200d \ufeff \ue000 \U0010ffff \u0378 \u180e".split(" ")


def more_texts(seed: int, count: int) -> list:
    chance = random.Random(seed)
    pools = [PIECES] * 6 + [SPACES] * 4 + [STRANGE]
    join = [chance.choice(chance.choice(pools)) for _ in range(count * 6)]
    return ["".join(join[at : at + 6]) for at in range(0, len(join), 6)]


def byte_characters() -> list:
    """The character that byte-level vocabularies write for each byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (code for code in range(0x100, 0x200))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def train(words: list, count: int) -> list:
    """The most frequent pairs, one after the other; ties go to the first in order."""
    merges = []
    for _ in range(count):
        pairs = collections.Counter(pair for word in words for pair in zip(word, word[1:]))
        pair, seen = min(pairs.items(), key=lambda item: (-item[1], item[0]))
        if seen < 2:
            break
        merges.append(pair)
        words = [joined(word, pair) for word in words]
    return merges


def joined(word: list, pair: tuple) -> list:
    out, at = [], 0
    while at < len(word):
        if tuple(word[at : at + 2]) == pair:
            out.append(pair[0] + pair[1])
            at += 2
        else:
            out.append(word[at])
            at += 1
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", required=True)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        texts = json.load(open(options.texts, encoding="utf-8"))
        leave(json.dumps(ask(options.one, texts, (False,))))
    given = json.load(open(options.texts, encoding="utf-8"))
    # Which planes beyond the first have letters depends on the version of Unicode.
    is_old = lambda c: ord(c) < 0x10000 or unicodedata.category(c) != "Cn"
    given = [text for text in given if all(map(is_old, text))]
    texts = list(dict.fromkeys([*given, *more_texts(7, 400)]))
    alphabet = byte_characters()
    spell = lambda text: [alphabet[byte] for byte in text.encode()]
    merges = train([spell(text) for text in texts], MERGES)
    tokens = list(dict.fromkeys(left + right for left, right in merges))
    tokens += ["".join(spell(WHOLE)), END, BOS, USER]
    kinds = [1] * (256 + len(tokens) - 3) + [3, 3, 4]
    groups = {}
    with tempfile.TemporaryDirectory() as folder:
        file, all_texts = Path(folder, "model.gguf"), Path(folder, "texts.json")
        all_texts.write_text(json.dumps(texts))
        for name in NAMES:
            write_model(file, bpe(alphabet + tokens, kinds, merges, name))
            command = [sys.executable, __file__, "--texts", all_texts, "--one", file]
            run = subprocess.run(command, capture_output=True, text=True, timeout=120)
            if run.returncode != 0:
                said = re.findall("error loading vocabulary: (.*)", run.stderr)
                sys.exit(f"{name}: {said[0] if said else run.stderr[-300:]}")
            rows = json.loads(run.stdout)
            adds_bos = rows["empty"] != []
            key = json.dumps([adds_bos, [row[0] for row in rows["rows"]]])
            groups.setdefault(key, []).append(name)
            print(name, file=sys.stderr)
    ids, described = [[] for _ in texts], []
    for key, names in groups.items():
        adds_bos, lists = json.loads(key)
        which = []
        for seen, found in zip(ids, lists):
            if found not in seen:
                seen.append(found)
            which.append(seen.index(found))
        described.append({"names": names, "adds_bos": adds_bos, "which": which})
    write = lambda value: json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    print("{" + f'"llama_cpp":{write(xllamacpp.__version__)},')
    print(f'"tokens":{write(tokens)},\n"merges":{write([" ".join(pair) for pair in merges])},')
    print('"texts":[\n' + ",\n".join(map(write, texts)) + "\n],")
    print('"ids":[\n' + ",\n".join(map(write, ids)) + "\n],")
    print('"groups":[\n' + ",\n".join(map(write, described)) + "\n]}")


def bpe(tokens: list, kinds: list, merges: list, name: str):
    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(name)
        writer.add_token_list(tokens)
        writer.add_token_types(kinds)
        writer.add_token_merges([" ".join(pair) for pair in merges])
        writer.add_eos_token_id(len(tokens) - 3)
        writer.add_bos_token_id(len(tokens) - 2)

    return len(tokens), fill


if __name__ == "__main__":
    main()
