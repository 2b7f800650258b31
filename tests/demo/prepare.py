"""Makes the demo's two texts from unpacked Debian packages. Standard library only.

    python prepare.py --bible DIR --policy DIR --out DIR [--dataset-bytes 160000]

DIR is where `dpkg-deb -x` put the package. Writes pretrain.txt (King James Bible, from bible-kjv-text) and dataset.jsonl
(Debian Policy Manual, from debian-policy: one paragraph a line, {"text": "..."}).

usr/lib/bible.data, layout "EC02", all numbers big-endian: 84 bytes of name, u32 window size, u32 windows, windows + 1 u32
offsets, then the windows. Each window is an LZW stream as `compress` writes it, less its three-byte header.
"""

import argparse
import gzip
import io
import json
import os
import re
import struct

BIBLE = "usr/lib/bible.data"
POLICY = "usr/share/doc/debian-policy/policy.txt.gz"
CLEAR, BITS_AT_FIRST, BITS_AT_MOST = 256, 9, 16
FILE_LIMIT = 16 << 20


def main():
    parser = argparse.ArgumentParser(description="make pretrain.txt and dataset.jsonl")
    parser.add_argument("--bible", required=True, help="unpacked bible-kjv-text")
    parser.add_argument("--policy", required=True, help="unpacked debian-policy")
    parser.add_argument("--out", required=True)
    parser.add_argument("--dataset-bytes", type=int, default=160_000)
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)

    with open(os.path.join(options.bible, BIBLE), "rb") as file:
        verses = bible_verses(unpack_windows(file.read(FILE_LIMIT)))
    with open(os.path.join(options.out, "pretrain.txt"), "w", encoding="ascii", newline="\n") as file:
        file.writelines(verse + "\n" for verse in verses)

    with gzip.open(os.path.join(options.policy, POLICY)) as file:
        paragraphs = policy_paragraphs(file.read(FILE_LIMIT).decode("utf-8"))
    chosen = evenly(paragraphs, options.dataset_bytes)
    with open(os.path.join(options.out, "dataset.jsonl"), "w", encoding="ascii", newline="\n") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in chosen)
    print(f"pretrain.txt: {len(verses)} verses; dataset.jsonl: {len(chosen)} of {len(paragraphs)} paragraphs")


def unpack_windows(data):
    if data[:4] != b"EC02":
        raise ValueError("bible.data does not begin with EC02")
    size, count = struct.unpack_from(">2I", data, 84)
    offsets = struct.unpack_from(f">{count + 1}I", data, 92)
    if list(offsets) != sorted(offsets) or offsets[-1] > len(data) or size * count > FILE_LIMIT:
        raise ValueError("bible.data has offsets that do not fit the file")
    text = io.BytesIO()
    for start, end in zip(offsets, offsets[1:]):
        text.write(unpack_lzw(data[start:end])[:size])
    return text.getvalue()


def unpack_lzw(data):
    """LZW of `compress` in block mode: codes of 9 to 16 bits; a change of width skips to a border of eight codes."""
    table = [bytes([value]) for value in range(256)] + [b""]
    output = io.BytesIO()
    previous, bits, position, border = None, BITS_AT_FIRST, 0, 0

    def next_border():
        group = bits * 8
        return border + -(-(position - border) // group) * group

    while position + bits <= len(data) * 8:
        code = int.from_bytes(data[position >> 3 : (position >> 3) + 4], "little") >> (position & 7) & ((1 << bits) - 1)
        position += bits
        if code == CLEAR:
            del table[CLEAR + 1 :]
            position = border = next_border()
            previous, bits = None, BITS_AT_FIRST
            continue
        if code < len(table):
            entry = table[code]
        elif code == len(table) and previous is not None:
            entry = previous + previous[:1]
        else:
            raise ValueError("bible.data holds a code that its table does not have")
        if previous is not None and len(table) < 1 << BITS_AT_MOST:
            table.append(previous + entry[:1])
        output.write(entry)
        previous = entry
        if len(table) >= 1 << bits and bits < BITS_AT_MOST:
            position = border = next_border()
            bits += 1
    return output.getvalue()


def bible_verses(raw):
    """Verses without their "Ge1:1 " marks."""
    text = raw.decode("ascii", errors="ignore")
    verses = re.findall(r"^[0-9]?[A-Za-z]+[0-9]+:[0-9]+ (.+)$", text, flags=re.MULTILINE)
    if len(verses) < 30_000:
        raise ValueError(f"only {len(verses)} verses found; the King James Bible has 31102")
    return [" ".join(verse.split()) for verse in verses]


def policy_paragraphs(text):
    """Running prose only: no tables of contents, lists of names, rulers, code or links."""
    paragraphs = []
    for block in re.split(r"\n\s*\n", text):
        lines = block.split("\n")
        if any(line.startswith("      ") for line in lines):
            continue
        words = re.sub(r"^\s*(?:\*|\d+\.)\s+|\s*\[\d+\]", "", block)
        words = " ".join(re.sub(r"[*_`\"]", "", words).split()).replace("\u2019", "'")
        if len(words) < 120 or not words.isascii() or not words.endswith((".", ":", ")")):
            continue
        letters = sum(character.isalpha() or character == " " for character in words)
        if letters / len(words) < 0.92 or "http" in words or "--" in words:
            continue
        paragraphs.append(words)
    return list(dict.fromkeys(paragraphs))


def evenly(paragraphs, size):
    """Paragraphs spread over the whole manual, about `size` bytes together, in an order that mixes its chapters.

    The order is a fixed stride, so that the held-out tail is of the same kind as the rest.
    """
    share = min(1.0, size / max(1, sum(map(len, paragraphs))))
    chosen = [text for index, text in enumerate(paragraphs) if int((index + 1) * share) > int(index * share)]
    return [text for first in range(10) for text in chosen[first::10]]


if __name__ == "__main__":
    main()
