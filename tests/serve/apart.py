"""`python -m serve.apart FOLDER MAKER`: a studio without a key, until standard input ends. It says its address and its routes."""

import sys
from pathlib import Path

from serve.serving import serving
from serve.test_guard import routes

if __name__ == "__main__":
    with serving(Path(sys.argv[1]), key=None, maker=sys.argv[2]) as studio:
        print(studio.url, *(f"{method}={path}" for method, path in sorted(set(routes(studio)))), flush=True)
        sys.stdin.read()
