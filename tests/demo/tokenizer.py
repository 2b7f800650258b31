"""Byte-level BPE: 256 bytes plus learned merges. Every byte string has a tokenization, so no unknown token exists.

Standard library only. Stored as `tokenizer.json` beside the weights: {"version": 1, "merges": [[left, right], ...]};
merge number i makes token 256 + i.
"""

import collections
import json
import re

# A word keeps its leading blank; punctuation runs and other white space stand alone. Merges never cross these borders.
PIECES = re.compile(r" ?\w+|[^\w\s]+|\s")


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(pair) for pair in merges]
        self.rank = {pair: index for index, pair in enumerate(self.merges)}
        if len(self.rank) != len(self.merges):
            raise ValueError("a merge is listed twice")
        self.bytes_of = [bytes([value]) for value in range(256)]
        for left, right in self.merges:
            if not (0 <= left < len(self.bytes_of) and 0 <= right < len(self.bytes_of)):
                raise ValueError("a merge names a token that does not exist yet")
            self.bytes_of.append(self.bytes_of[left] + self.bytes_of[right])
        self._known = {}

    @property
    def size(self):
        return len(self.bytes_of)

    def encode(self, text):
        ids = []
        for piece in PIECES.findall(text):
            known = self._known.get(piece)
            if known is None:
                known = self._known[piece] = self._encode_piece(piece)
            ids.extend(known)
        return ids

    def decode(self, ids):
        return b"".join(self.bytes_of[index] for index in ids).decode("utf-8", errors="replace")

    def _encode_piece(self, piece):
        ids = list(piece.encode("utf-8"))
        while len(ids) > 1:
            best = min(zip(ids, ids[1:]), key=lambda pair: self.rank.get(pair, len(self.merges)))
            if best not in self.rank:
                break
            ids = _merge(ids, best, 256 + self.rank[best])
        return ids

    @classmethod
    def train(cls, text, size):
        """Greedy BPE over the counts of distinct pieces; ties go to the smaller pair, so the result is fixed by the text."""
        counts = collections.Counter(PIECES.findall(text))
        words = [(list(piece.encode("utf-8")), count) for piece, count in sorted(counts.items())]
        merges = []
        while 256 + len(merges) < size:
            pairs = collections.Counter()
            for ids, count in words:
                for pair in zip(ids, ids[1:]):
                    pairs[pair] += count
            if not pairs:
                break
            best = min(pairs, key=lambda pair: (-pairs[pair], pair))
            if pairs[best] < 2:
                break
            token = 256 + len(merges)
            merges.append(best)
            words = [(_merge(ids, best, token), count) for ids, count in words]
        return cls(merges)

    def save(self, path):
        with open(path, "w", encoding="ascii") as file:
            json.dump({"version": 1, "merges": self.merges}, file)

    @classmethod
    def load(cls, path):
        with open(path, encoding="ascii") as file:
            stored = json.load(file)
        if stored.get("version") != 1:
            raise ValueError("tokenizer.json has an unknown version")
        return cls(stored["merges"])


def _merge(ids, pair, token):
    left, right = pair
    merged, index, last = [], 0, len(ids) - 1
    while index <= last:
        if index < last and ids[index] == left and ids[index + 1] == right:
            merged.append(token)
            index += 2
        else:
            merged.append(ids[index])
            index += 1
    return merged
