"""Packs the base model as the zip that 0G's contract wants: one top-level directory. Same files in, same bytes out.

    python pack.py --model base-model --out base-model.zip

Layout: base-model/config.json, base-model/tokenizer.json, base-model/weights.npz; stored, dated 1980-01-01, mode 0644.
Standard library only.
"""

import argparse
import hashlib
import os
import zipfile

FILES = ("config.json", "tokenizer.json", "weights.npz")
TOP = "base-model/"


def main():
    parser = argparse.ArgumentParser(description="zip the base model")
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    with zipfile.ZipFile(options.out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(entry(TOP, 0o40755), b"")
        for name in FILES:
            with open(os.path.join(options.model, name), "rb") as file:
                archive.writestr(entry(TOP + name, 0o100644), file.read())
    with open(options.out, "rb") as file:
        content = file.read()
    print(f"{hashlib.sha256(content).hexdigest()} {len(content)} {options.out}")


def entry(name, mode):
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, mode << 16
    return info


if __name__ == "__main__":
    main()
