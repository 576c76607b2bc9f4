"""The site: its sources for mdBook, and the links of what was built."""

import posixpath
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import docs_links

SUMMARY = "docs/SUMMARY.md"


def stage(root: Path, book: Path) -> list:
    """Chapters and the files that they link to, each at its place in the tree."""
    source = book / "src"
    summary = (root / SUMMARY).read_text(encoding="utf-8")
    chapters = [docs_links.resolve(SUMMARY, target)[0] for _, target in docs_links.links(summary)]
    source.mkdir(parents=True)
    shutil.copy(root / "docs/book.toml", book)
    (source / "SUMMARY.md").write_text(rewritten(SUMMARY, summary, "SUMMARY.md"), encoding="utf-8")
    found = []
    for chapter in chapters:
        text = (root / chapter).read_text(encoding="utf-8")
        place = source / index(chapter)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(rewritten(chapter, text, chapter), encoding="utf-8")
        for number, target in docs_links.links(text):
            path, _ = docs_links.resolve(chapter, target)
            if path.endswith(".md") and path not in chapters:
                found.append(f"{chapter}:{number}: {path} is not in {SUMMARY}")
            elif not path.endswith(".md"):
                (source / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / path, source / path)
    return found


def index(path: str) -> str:
    """mdBook calls the page of a folder index."""
    folder, name = posixpath.split(path)
    return posixpath.join(folder, "index.md") if name == "README.md" else path


def rewritten(document: str, text: str, place: str) -> str:
    """The same with links that hold for `place`, in place of those for `document`."""
    ups = "../" * document.count("/")

    def link(found: re.Match) -> str:
        target = found[2]
        if target.startswith(docs_links.SITE):
            return f"{found[1]}({ups}{target.removeprefix(docs_links.SITE)})"
        if target.startswith("#") or re.match(r"[a-z]+:", target):
            return found[0]
        path, anchor = docs_links.resolve(document, target)
        start = posixpath.dirname(place) or "."
        there = posixpath.relpath(index(path), start)
        return f"{found[1]}({there}{'#' + anchor if anchor else ''})"

    return docs_links.LINK.sub(link, text)


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.ids, self.targets = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids.update(values[name] for name in ("id", "name") if values.get(name))
        self.targets += [values[name] for name in ("href", "src") if values.get(name)]


def faults(site: Path) -> list:
    """Links of the book's own pages that lead nowhere, also into the two references."""
    pages, found = {}, []
    for path in sorted(site.rglob("*.html")):
        folder = path.relative_to(site).parts[0]
        if folder not in ("c", "rust", "404.html"):
            found += [f"{path.relative_to(site)}: {fault}" for fault in page_faults(path, pages)]
    return found


def page_faults(path: Path, pages: dict) -> list:
    found = []
    for target in parsed(path, pages).targets:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if there.is_dir():
            there = there / "index.html"
        if not there.is_file():
            found.append(f"{target} leads to no file")
        elif parts.fragment and there.suffix == ".html":
            if unquote(parts.fragment) not in parsed(there, pages).ids:
                found.append(f"{target} leads to no heading")
    return found


def parsed(path: Path, pages: dict) -> Page:
    if path not in pages:
        pages[path] = Page(path.read_text(encoding="utf-8", errors="replace"))
    return pages[path]
