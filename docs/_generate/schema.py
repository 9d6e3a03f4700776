"""Writes docs/reference/schema/*.schema.json from the model; with --check says whether they are stale.

python docs/_generate/schema.py [--check]
"""

import json
import sys
from pathlib import Path

from otel_stage.manifest import json_schema

FOLDER = Path(__file__).resolve().parents[1] / "reference" / "schema"
KINDS = ("stage", "job", "journal")


def text(kind):
    return json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n"


def main():
    check = "--check" in sys.argv[1:]
    FOLDER.mkdir(parents=True, exist_ok=True)
    stale = []
    for kind in KINDS:
        path = FOLDER / f"{kind}.schema.json"
        if check:
            if not path.exists() or path.read_text(encoding="utf-8") != text(kind):
                stale.append(path)
        else:
            path.write_text(text(kind), encoding="utf-8")
    for path in stale:
        print(f"{path} is stale: make docs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
