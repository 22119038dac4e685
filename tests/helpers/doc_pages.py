"""What pages of documentation hold: prose, commands, programs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def read(page):
    return (ROOT / page).read_text()


def code_blocks(page, language=""):
    """The blocks of a language; "" is the shell's."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", read(page), re.DOTALL | re.MULTILINE)
    return [text for name, text in blocks if name == language]


def list_lines(text):
    """The lines, with those that a backslash continues, without comments."""
    text = re.sub(r"\\\n\s*", "", text)
    return [line.split(" #")[0].rstrip() for line in text.splitlines()]


def list_commands(block):
    """The commands of a block of shell lines, without settings of the environment before them."""
    commands = [part.strip() for line in list_lines(block) for part in line.split(" && ")]
    return [re.sub(r"^([A-Z_]+=\S+ )+", "", command) for command in commands if command]


def programs(page):
    """Python blocks that the page says to save: name to text. Their first line is the name."""
    blocks = [re.match(r"# (\w+\.py)\n", block) and block for block in code_blocks(page, "python")]
    return {block.split()[1]: block for block in blocks if block}


def anchors_of(text):
    """The anchors that a code host and the site give to the headings of a page."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sentences(page):
    """The sentences of a page's prose: no code, no tables, links by their words."""
    text = re.sub(r"^```.*?^```", "", read(page), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", "", text)  # pictures
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    lines = ["" if line.startswith(("|", "#")) else line for line in text.splitlines()]
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:- |\d\. ))", "\n".join(lines))
    return [s for part in parts for s in re.split(r"(?<=[.!?:;])[*_]*\s+", part) if s.strip()]
