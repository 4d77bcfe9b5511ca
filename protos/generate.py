"""Generate `analyzer/sources/pb` from the .proto files beside this script: ``python protos/generate.py`` (``make protos``).

The generated modules are moved below `analyzer.sources.pb` and register in a descriptor pool of their own, so that another
package in the same process may bring its own ``flow/flow.proto`` (Cilium's, for one) without a clash.
"""

from __future__ import annotations

import re
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent
TARGET = PROTOS.parent / "analyzer" / "sources" / "pb"
PACKAGE = "analyzer.sources.pb"


def main() -> int:
    """Run protoc, then rewrite the imports of what it wrote. Returns protoc's exit code."""
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("*/*.proto"))
    TARGET.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{PROTOS}", f"-I{files('grpc_tools') / '_proto'}"]
    code: int = protoc.main(["protoc", *includes, f"--python_out={TARGET}", f"--pyi_out={TARGET}", *sources])
    if code:
        return code
    ours = "|".join(sorted({source.split("/")[0] for source in sources}))
    for path in sorted([*TARGET.glob("*/*_pb2.py"), *TARGET.glob("*/*_pb2.pyi")]):
        text = path.read_text(encoding="utf-8")
        text = re.sub(rf"^from ((?:{ours})[. ])", rf"from {PACKAGE}.\1", text, flags=re.MULTILINE)
        text = text.replace(
            "from google.protobuf import descriptor_pool as _descriptor_pool",
            f"from {PACKAGE} import pool as _descriptor_pool",
        )
        path.write_text(text, encoding="utf-8")
        init = path.parent / "__init__.py"
        init.write_text(f'"""Generated from protos/{path.parent.name}."""\n', encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
