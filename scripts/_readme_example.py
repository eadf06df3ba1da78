"""Run the README's library example as it stands, against the fake backend that the package ships.

The example is the Python block below `<!-- example: library -->`. It is a whole program: it names one backend's URL
(`http://host:port`, replaced here by the fake's), asks for a model, prints an answer, and ends by itself.
"""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = re.compile(r"^<!-- example: library -->\s*^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MODEL = re.compile(r"""\bmodel["']?\s*[:=]\s*["']([^"']+)""")
URL = re.compile(r"http://[\w.-]+:\d+")
WITHIN = 60.0  # seconds


def main(readme: str) -> None:
    found = EXAMPLE.search(Path(readme).read_text())
    if found is None:
        sys.exit(f"{readme} has no Python block below <!-- example: library -->")
    program, model = found[1], MODEL.search(found[1])
    models = ["--models", model[1]] if model else []
    with subprocess.Popen([sys.executable, "-m", "solar.testing", *models], stdout=subprocess.PIPE, text=True) as fake:
        try:
            # Its first line says where it listens.
            url = fake.stdout.readline().strip() if fake.stdout else ""
            if not url:
                sys.exit("python -m solar.testing ended before it listened")
            program, replaced = URL.subn(url, program)
            if not replaced:
                sys.exit(f"The library example names no backend like http://host:port:\n{program}")
            ran = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=WITHIN)
        finally:
            fake.terminate()
    if ran.returncode != 0 or not ran.stdout.strip():
        sys.exit(f"The library example ended with {ran.returncode} and printed {ran.stdout!r}:\n{program}")
    print(f"The README's library example prints:\n{ran.stdout}")


if __name__ == "__main__":
    main(sys.argv[1])
