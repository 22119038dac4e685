"""The README's figures are those of the sections that it links to."""

import re

import pytest

from tests.helpers.doc_pages import ROOT, read

RESULTS = read("README.md").split("\n## Results\n")[1].split("\n## ")[0]
ROWS = [line for line in RESULTS.splitlines() if re.match(r"\| [^m-]", line)]
LINKS = re.findall(r"\[([\d.]+)(?: times)?\]\(([\w/.]+)#([\w-]+)\)", RESULTS)
FIGURE = re.compile(r"\d+\.\d+(?:-\d+\.\d+)?|\d+(?![\d.])")


def slug(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def section(page, anchor):
    """The text below a heading, to the next one of its level or above."""
    text = read(page)
    for heading in re.finditer(r"^(#+) (.*)$", text, re.MULTILINE):
        if slug(heading[2]) == anchor:
            rest = text[heading.end() :]
            return re.split(rf"^#{{1,{len(heading[1])}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    raise AssertionError(f"{page} has no section {anchor}")


def figures(text):
    return FIGURE.findall(re.sub(r"[*|]", " ", re.sub(r"\([\w/.]+#[\w-]+\)", " ", text)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row.split("|")[1:3]).strip())
def test_a_row_is_one_of_the_section_that_it_links_to(row):
    model, tested_on, *cells, published = [cell.strip() for cell in row.strip("|").split("|")]
    [(page, anchor)] = re.findall(r"\(([\w/.]+)#([\w-]+)\)", cells[1])
    lines = [line for line in section(page, anchor).splitlines() if line.startswith("|")]
    place = tested_on.replace(",", "").split()[0].lower()
    wanted = figures(" ".join(cells))
    assert len(wanted) == 4  # films, Dice, interval, HD95
    found = [line for line in lines if place in line.lower() and set(wanted) <= {*figures(line)}]
    assert len(found) == 1, row
    if published:
        [(page, anchor)] = re.findall(r"\(([\w/.]+)#([\w-]+)\)", published)
        assert {*figures(published)} <= {*figures(section(page, anchor))}


@pytest.mark.parametrize(("figure", "page", "anchor"), LINKS)
def test_a_linked_figure_stands_in_its_section(figure, page, anchor):
    assert figure in figures(section(page, anchor).replace("x", " "))
    assert page in ("docs/results.md", "docs/performance.md")


def test_every_measured_figure_is_linked():
    prose = re.sub(r"\[[^]]*\]\([^)]*\)", "", RESULTS)
    prose = "\n".join(line for line in prose.splitlines() if not line.startswith("|"))
    assert re.findall(r"\d+\.\d+", prose) == ["0.5"]  # the threshold
    assert len(ROWS) >= 8 and len(LINKS) > len(ROWS)


def test_pages_and_not_the_readme_have_commits_and_processors():
    assert not re.search(r"Xeon|EPYC|Zen|commit|\b(?=[0-9a-f]*\d)[0-9a-f]{7,40}\b", RESULTS)
    for page in ("docs/results.md", "docs/performance.md"):
        text = (ROOT / page).read_text()
        assert re.search(r"Xeon|EPYC", text) and "commit" in text and "python " in text
