"""The pages of the documentation, and the code in them, in the order of the text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
OF_RESULTS = [ROOT / "results" / "README.md", ROOT / "results" / "REPORT.md"]
FILE = re.compile(r"`([\w/]+\.(?:py|yaml))`:$")  # ends the sentence before a block that is a file
INLINE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """Code of a page: of a language, or "indented"; `file` is the name that the text gives it."""

    page: Path
    line: int
    language: str
    text: str
    file: str | None

    @property
    def where(self) -> str:
        return f"{self.page.name}, line {self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Fenced blocks, and indented ones that follow an empty line."""
    lines = page.read_text().splitlines()
    i, before = 0, ""
    while i < len(lines):
        start = i
        if lines[i].startswith("```"):
            language = lines[i].removeprefix("```")
            end = lines.index("```", i + 1)
            found = FILE.search(before)
            text = "\n".join(lines[i + 1 : end]) + "\n"
            yield Block(page, start + 1, language, text, found[1] if found else None)
            i = end
        elif lines[i].startswith("    ") and not lines[i - 1].strip():
            while i + 1 < len(lines) and lines[i + 1].startswith("    "):
                i += 1
            text = "\n".join(line[4:] for line in lines[start : i + 1]) + "\n"
            yield Block(page, start + 1, "indented", text, None)
        before = lines[i].strip() or before
        i += 1


def inline_code(page: Path) -> list[str]:
    """What stands between backquotes in a line of text."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return INLINE.findall(text)
