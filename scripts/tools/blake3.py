"""BLAKE3 of a few kilobytes, in plain Python: for scripts that change the files of a bundle.

    python3 scripts/tools/blake3.py FILE
"""

import struct
import sys

MASK = 0xFFFFFFFF
IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
      0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def rotate(word, by):
    return (word >> by | word << 32 - by) & MASK


def compress(chain, block, counter, length, flags):
    words = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    state = [*chain, *IV[:4], counter & MASK, counter >> 32, length, flags]
    for _ in range(7):
        for step, (a, b, c, d) in enumerate(COLUMNS + DIAGONALS):
            for word, first, second in ((words[2 * step], 16, 12), (words[2 * step + 1], 8, 7)):
                state[a] = (state[a] + state[b] + word) & MASK
                state[d] = rotate(state[d] ^ state[a], first)
                state[c] = (state[c] + state[d]) & MASK
                state[b] = rotate(state[b] ^ state[c], second)
        words = [words[at] for at in ORDER]
    return [state[at] ^ state[at + 8] for at in range(8)]


def chunk(data, counter, flags):
    blocks = [data[at:at + 64] for at in range(0, len(data), 64)] or [b""]
    chain = IV
    for at, block in enumerate(blocks):
        own = CHUNK_START * (at == 0)
        if at == len(blocks) - 1:
            own |= CHUNK_END | flags
        chain = compress(chain, block, counter, len(block), own)
    return chain


def tree(data, counter, flags):
    if len(data) <= 1024:
        return chunk(data, counter, flags)
    left = 1024
    while left * 2 < len(data):
        left *= 2
    pair = tree(data[:left], counter, 0) + tree(data[left:], counter + left // 1024, 0)
    return compress(IV, struct.pack("<16I", *pair), 0, 64, PARENT | flags)


def blake3(data):
    """Lower-case hex."""
    return struct.pack("<8I", *tree(data, 0, ROOT)).hex()


if __name__ == "__main__":
    print(blake3(open(sys.argv[1], "rb").read()))
