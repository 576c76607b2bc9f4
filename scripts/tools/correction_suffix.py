#!/usr/bin/env python3
"""How often a remembered correction would answer, and be right, by the number of preceding ids that
must match.

    correction_suffix.py FOLDER      records that `hybrid-lab collect --path llm` wrote

The problems of the train and validation splits come one after the other, and the fifth of the
tokens with the least probability is asked for. The answer is right if it is the cloud LLM's token
in the new place too.
"""

import array
import json
import pathlib
import struct
import sys

SUFFIXES = 2, 4, 8, 16, 32
ASKED = 0.2
STATISTICS = 16  # a row of `stats`
P = 2  # of it, the candidate's probability


def read(path):
    """The header's `about` and the tensors as flat arrays."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])

    def tensor(name):
        begin, end = header[name]["data_offsets"]
        kind = {"U32": "I", "F32": "f"}[header[name]["dtype"]]
        return array.array(kind, data[8 + size + begin : 8 + size + end])

    about = json.loads(header["__metadata__"]["about"])
    return (
        about,
        tensor("tokens"),
        tensor("candidates"),
        tensor("choices"),
        tensor("stats")[P::STATISTICS],
    )


def places(records, suffix, threshold):
    """Of each token asked for: where it is, the candidate's and the cloud LLM's token."""
    for about, tokens, candidates, choices, p in records:
        for at in range(len(tokens)):
            if p[at] < threshold:
                # A shorter answer has the prompt before it, which no other problem has.
                begin = (about["prompt"],) if at < suffix else ()
                context = begin + tuple(tokens[max(0, at - suffix) : at])
                yield (context, candidates[at]), candidates[at], choices[at]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    records = [read(path) for path in sorted(pathlib.Path(sys.argv[1]).glob("*.safetensors"))]
    records = [
        r for r in records if r[0]["split"] in ("train", "validation") and r[0]["path"] == "llm"
    ]
    probabilities = sorted(value for record in records for value in record[4])
    threshold = probabilities[int(ASKED * len(probabilities))]
    print(f"{len(records)} problems, {len(probabilities)} tokens")
    print("suffix   asked  answered     %  right %  candidate right %")
    for suffix in SUFFIXES:
        known, asked, answered, right, own = {}, 0, 0, 0, 0
        for place, candidate, choice in places(records, suffix, threshold):
            asked += 1
            if place in known:
                answered += 1
                right += known[place] == choice
                own += candidate == choice
            known[place] = choice
        share = 100 / max(answered, 1)
        print(
            f"{suffix:6} {asked:7} {answered:9} {100 * answered / asked:5.1f} "
            f"{right * share:8.1f} {own * share:18.1f}"
        )


main()
